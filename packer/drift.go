package packer

import (
	"quantize/calibrate"
	"quantize/model"
	"quantize/tensor"
)

// drift is what separates the rounded model from the full-precision one at the
// input of some linears. For input x and residual stream r of the rounded model,
// x' and r' of the other, it holds
//
//	C = Σ (x'-x)ᵀ x    (K, K)
//	R = Σ (r'-r)ᵀ x    (Hidden, K), of linears that write the residual stream
//
// The weight that gives the full-precision output on the rounded inputs in the
// least-squares sense, with the damping of the Hessian H = Σ xᵀx + λ holding it
// to W, is
//
//	W* = W + (W C + R) H⁻¹
//
// GPTQ then rounds W*. Without R this is the asymmetric calibration of GPTAQ
// (Li et al. 2025, arXiv 2504.02692); R makes the layer also return to the
// stream what earlier blocks have lost.
type drift struct {
	k      int
	input  []float64 // C
	stream []float64 // R, nil where the linears do not write the stream

	difference tensor.Matrix // work area

	factor     *Factor
	product    calibrate.MatMulT
	transposed tensor.Matrix // (C H⁻¹)ᵀ, or Cᵀ where there is R
}

func newDrift(k, hidden int, p model.Point) *drift {
	d := &drift{k: k, input: make([]float64, k*k)}
	if p == model.OIn || p == model.DownIn {
		d.stream = make([]float64, hidden*k)
	}
	return d
}

// add sums one window: in and exact are the inputs (M, K), x and y the streams.
func (d *drift) add(sums *calibrate.Accumulator, in, exact, x, y tensor.Matrix) {
	sums.Cross(d.input, d.minus(exact, in), in)
	if d.stream != nil {
		sums.Cross(d.stream, d.minus(y, x), in)
	}
}

func (d *drift) minus(a, b tensor.Matrix) tensor.Matrix {
	if n := a.Rows * a.Cols; cap(d.difference.Data) < n {
		d.difference.Data = make([]float32, n)
	}
	out := tensor.MatrixOf(a.Rows, a.Cols, d.difference.Data[:a.Rows*a.Cols])
	for i := range a.Rows {
		row, p, q := out.Row(i), a.Row(i), b.Row(i)
		for j := range row {
			row[j] = p[j] - q[j]
		}
	}
	return out
}

// prepare is called once the sums are complete; f is the factored Hessian.
func (d *drift) prepare(f *Factor, product calibrate.MatMulT) {
	d.factor, d.product = f, product
	c := d.input
	if d.stream == nil {
		// W C H⁻¹ = W (C H⁻¹): solved once for all linears of the site.
		f.Solve(c, d.k)
	}
	d.transposed = tensor.NewMatrix(d.k, d.k)
	overRows(d.k, func(next func() (int, bool)) {
		for j, ok := next(); ok; j, ok = next() {
			row := d.transposed.Row(j)
			for i := range row {
				row[i] = float32(c[i*d.k+j])
			}
		}
	})
	d.input = nil
}

// target returns W* for w (N, K).
func (d *drift) target(w tensor.Matrix) tensor.Matrix {
	out := tensor.NewMatrix(w.Rows, w.Cols)
	d.product(out, w, d.transposed)
	if d.stream != nil {
		g := make([]float64, len(d.stream))
		for i, v := range d.stream {
			g[i] = v + float64(out.Data[i])
		}
		d.factor.Solve(g, w.Rows)
		for i, v := range g {
			out.Data[i] = float32(v)
		}
	}
	for i := range w.Rows {
		row, from := out.Row(i), w.Row(i)
		for j := range row {
			row[j] += from[j]
		}
	}
	return out
}
