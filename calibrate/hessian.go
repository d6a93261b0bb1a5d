package calibrate

import (
	"quantize/model"
	"quantize/tensor"
)

// Hessian is Σ xᵀx over the tokens of a site, the Gram matrix that GPTQ calls
// H (arXiv 2210.17323, eq. 2, without its factor 2 and without damping).
type Hessian struct {
	K    int
	Data []float64 // (K, K) row-major, symmetric
}

// MatMulT writes a·bᵀ (M, N) into dst for a (M, K) and b (N, K); nothing
// aliases. It is how a caller wires a fast kernel to this package.
type MatMulT func(dst, a, b tensor.Matrix)

const (
	panel     = 256 // rows of the product formed at a time
	tokenSpan = 512 // tokens summed in FP32
)

// gram accumulates the upper triangles of Hessians; it owns the work areas.
type gram struct {
	product    MatMulT
	transposed []float32 // (K, tokens): xᵀ
	sums       []float32 // (panel, K)
}

// add accumulates xᵀx into the upper triangle of h.
func (g *gram) add(h *Hessian, x tensor.Matrix) {
	for from := 0; from < x.Rows; from += tokenSpan {
		g.addSpan(h, x.RowRange(from, min(from+tokenSpan, x.Rows)))
	}
}

func (g *gram) addSpan(h *Hessian, x tensor.Matrix) {
	k := h.K
	xt := transpose(&g.transposed, x)
	for from := 0; from < k; from += panel {
		to := min(from+panel, k)
		sums := tensor.MatrixOf(to-from, k-from, grown(&g.sums, (to-from)*(k-from)))
		g.product(sums, xt.RowRange(from, to), xt.RowRange(from, k))
		overRange(to-from, 16, func(first, last int) {
			for r := first; r < last; r++ {
				row := h.Data[(from+r)*k+from : (from+r+1)*k]
				for c, v := range sums.Row(r)[r:] {
					row[r+c] += float64(v)
				}
			}
		})
	}
}

// transpose writes xᵀ (K, M) into buffer.
func transpose(buffer *[]float32, x tensor.Matrix) tensor.Matrix {
	xt := tensor.MatrixOf(x.Cols, x.Rows, grown(buffer, x.Cols*x.Rows))
	overRange(x.Cols, 64, func(from, to int) {
		for c := from; c < to; c++ {
			row := xt.Row(c)
			for i := range row {
				row[i] = x.Data[i*x.Stride+c]
			}
		}
	})
	return xt
}

// mirror copies the upper triangle to the lower.
func (h *Hessian) mirror() {
	for i := range h.K {
		for j := range i {
			h.Data[i*h.K+j] = h.Data[j*h.K+i]
		}
	}
}

func grown(buffer *[]float32, n int) []float32 {
	if cap(*buffer) < n {
		*buffer = make([]float32, n)
	}
	return (*buffer)[:n]
}

// PlainMatMulT is the formula, for callers that wire no kernel.
func PlainMatMulT(dst, a, b tensor.Matrix) {
	for i := range a.Rows {
		x, y := a.Row(i), dst.Row(i)
		for j := range b.Rows {
			sum := 0.0
			for c, v := range b.Row(j) {
				sum += float64(x[c]) * float64(v)
			}
			y[j] = float32(sum)
		}
	}
}

// LinearInputs are the points whose Hessians rounding needs: the inputs of the
// linears of a block, and of each expert's down. ExpertIn is not among them: a
// Hessian for each expert's gate and up takes Hidden² sums an expert, and scales
// that all of them share are judged by MLPIn.
var LinearInputs = []model.Point{model.AttnIn, model.OIn, model.MLPIn, model.DownIn}
