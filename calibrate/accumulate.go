package calibrate

import "quantize/tensor"

// Accumulator sums products of activations over tokens. It owns the work areas
// and serves one goroutine; its products run on all cores.
type Accumulator struct {
	gram   gram
	second []float32 // (K, tokens): yᵀ of Cross
}

// NewAccumulator makes one that forms its products with p; nil: plain Go, slow.
func NewAccumulator(p MatMulT) *Accumulator {
	if p == nil {
		p = PlainMatMulT
	}
	return &Accumulator{gram: gram{product: p}}
}

// Add accumulates xᵀx for x (M, K) into h. Complete has to follow the last Add.
func (a *Accumulator) Add(h *Hessian, x tensor.Matrix) { a.gram.add(h, x) }

// Complete makes h symmetric: Add sums its upper triangle only.
func (a *Accumulator) Complete(h *Hessian) { h.mirror() }

// Cross accumulates yᵀx into c (N, K), row-major, for y (M, N) and x (M, K).
func (a *Accumulator) Cross(c []float64, y, x tensor.Matrix) {
	n, k := y.Cols, x.Cols
	for from := 0; from < x.Rows; from += tokenSpan {
		to := min(from+tokenSpan, x.Rows)
		yt := transpose(&a.gram.transposed, y.RowRange(from, to))
		xt := transpose(&a.second, x.RowRange(from, to))
		for first := 0; first < n; first += panel {
			last := min(first+panel, n)
			sums := tensor.MatrixOf(last-first, k, grown(&a.gram.sums, (last-first)*k))
			a.gram.product(sums, yt.RowRange(first, last), xt)
			overRange(last-first, 16, func(from, to int) {
				for r := from; r < to; r++ {
					row := c[(first+r)*k : (first+r+1)*k]
					for j, v := range sums.Row(r) {
						row[j] += float64(v)
					}
				}
			})
		}
	}
}
