package smoothing

import (
	"fmt"
	"math"

	"quantize/calibrate"
	"quantize/internal/fault"
	"quantize/model"
	"quantize/tensor"
)

const (
	defaultRows = 512
	gramRows    = 256 // rows of H in FP32 at a time
)

// judge is an objective made ready for one feed.
type judge struct {
	*Objective
	where   string
	block   *smoothed
	to      []string
	wires   wires
	hessian *calibrate.Hessian
	unit    float64 // mean of H's diagonal: products of H/unit fit FP32

	// Work areas: rows of W·diag(s) and the error of them, what Fake makes of
	// them, rows of H, the error times those.
	weights, rounded, gram, product []float32
}

func (o *Objective) judge(b *smoothed, site model.Site, f model.Feed, w wires) (*judge, error) {
	where := fmt.Sprintf("layer %d, %s", site.Layer, site.Point)
	if o == nil || o.Fake == nil {
		return nil, &fault.Error{Err: ErrScale, Where: where, Found: "a search without the target's quantiser", Wanted: "one"}
	}
	h, k := o.Hessians[site.Point], w.columns()
	if err := checkHessian(where, h, k); err != nil {
		return nil, err
	}
	trace := 0.0
	for i := range k {
		trace += h.Data[i*k+i]
	}
	j := &judge{Objective: o, where: where, block: b, to: f.To, wires: w, hessian: h, unit: trace / float64(k)}
	if !(j.unit > 0) {
		j.unit = 1 // no activation at all: every error is 0
	}
	return j, nil
}

func checkHessian(where string, h *calibrate.Hessian, k int) error {
	switch {
	case h == nil:
		return &fault.Error{Err: ErrScale, Where: where, Found: "no Hessian", Wanted: fmt.Sprintf("one of %d channels", k)}
	case h.K != k:
		return &fault.Error{Err: ErrScale, Where: where, Found: fmt.Sprintf("a Hessian of %d channels", h.K), Wanted: fmt.Sprint(k)}
	}
	return nil
}

// error is the objective at the scales s of the channels.
func (j *judge) error(s []float64) (float64, error) {
	columns := j.wires.spread(s)
	total := 0.0
	for _, name := range j.to {
		if !j.block.linears[name] {
			continue
		}
		rows := j.block.params.Weight(name).Rows
		delta, err := j.delta(name, columns)
		if err != nil {
			return 0, err
		}
		total += j.energy(delta) * float64(rows) / float64(delta.Rows)
	}
	total *= j.unit
	if math.IsNaN(total) || math.IsInf(total, 0) {
		return 0, &fault.Error{
			Err: ErrScale, Where: j.where, Found: fmt.Sprintf("an output error of %v", total), Wanted: "a finite one",
			Hint: "weights or activations are not finite?",
		}
	}
	return total, nil
}

// delta returns W' - W for the sampled rows of a linear, in the units of W.
func (j *judge) delta(module string, columns []float64) (tensor.Matrix, error) {
	w, d := j.block.params.Weight(module), j.block.divisors(module)
	limit := j.Rows
	if limit == 0 {
		limit = defaultRows
	}
	n := min(limit, w.Rows)
	row := func(i int) int { return i * w.Rows / n }
	scaled := tensor.MatrixOf(n, w.Cols, enough(&j.weights, n*w.Cols))
	rounded := tensor.MatrixOf(n, w.Cols, enough(&j.rounded, n*w.Cols))
	sharedOut(n, 1+fewestWeights/w.Cols, func(from, end int) {
		for i := from; i < end; i++ {
			dst, src := scaled.Row(i), w.Row(row(i))
			for c, s := range columns {
				dst[c] = float32(src[c] / d[row(i)] * s)
			}
		}
	})
	if err := j.Fake(rounded, scaled); err != nil {
		return tensor.Matrix{}, fmt.Errorf("%s, %s: %w", j.where, module, err)
	}
	sharedOut(n, 1+fewestWeights/w.Cols, func(from, end int) {
		for i := from; i < end; i++ {
			dst, got, src := scaled.Row(i), rounded.Row(i), w.Row(row(i))
			for c, s := range columns {
				dst[c] = float32(float64(float64(got[c])*d[row(i)]/s) - src[c])
			}
		}
	})
	return scaled, nil
}

// energy is tr(D H Dᵀ)/unit. H is symmetric: each panel of its rows is taken from
// the diagonal on, the square on the diagonal at half weight, and all is doubled.
func (j *judge) energy(d tensor.Matrix) float64 {
	k := d.Cols
	sums := make([]float64, d.Rows)
	for from := 0; from < k; from += gramRows {
		end := min(from+gramRows, k)
		gram := tensor.MatrixOf(end-from, k-from, enough(&j.gram, (end-from)*(k-from)))
		sharedOut(end-from, 1+fewestWeights/(k-from), func(first, last int) {
			for r := first; r < last; r++ {
				row := gram.Row(r)
				for c, v := range j.hessian.Data[(from+r)*k+from : (from+r+1)*k] {
					if from+c < end {
						v /= 2
					}
					row[c] = float32(v / j.unit)
				}
			}
		})
		product := tensor.MatrixOf(d.Rows, end-from, enough(&j.product, d.Rows*(end-from)))
		multiply(j.MatMulT, product, d.ColRange(from, k), gram)
		sharedOut(d.Rows, 1+fewestWeights/(end-from), func(first, last int) {
			for i := first; i < last; i++ {
				off := d.Row(i)[from:end]
				for c, v := range product.Row(i) {
					sums[i] += float64(float64(v) * float64(off[c])) // no fused multiply-add: the same bits everywhere
				}
			}
		})
	}
	total := 0.0
	for _, v := range sums {
		total += v
	}
	return 2 * total
}

// multiply is a·bᵀ, in plain Go for callers that wire no kernel.
func multiply(kernel calibrate.MatMulT, dst, a, b tensor.Matrix) {
	if kernel != nil {
		kernel(dst, a, b)
		return
	}
	sharedOut(a.Rows, 1+fewestWeights/(a.Cols*max(b.Rows, 1)), func(from, end int) {
		for i := from; i < end; i++ {
			x, y := a.Row(i), dst.Row(i)
			for r := range b.Rows {
				sum := 0.0
				for c, v := range b.Row(r) {
					sum += float64(x[c]) * float64(v)
				}
				y[r] = float32(sum)
			}
		}
	})
}

func enough(buffer *[]float32, n int) []float32 {
	if cap(*buffer) < n {
		*buffer = make([]float32, n)
	}
	return (*buffer)[:n]
}
