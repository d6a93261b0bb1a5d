package ref

import (
	"math"

	"quantize/smoothing"
	"quantize/tensor"
)

// Hadamard returns a function that replaces every row x (n) of a matrix by
//
//	y[i] = Σ_j sign[i,j]·x[j] / √(n/b)
//
// over the j of the row's block, of which there are b: n² additions a row where
// the fast transform takes n·(k + Σm).
func (*Compute) Hadamard(h *smoothing.Hadamard) func(x tensor.Matrix) {
	return func(x tensor.Matrix) {
		if x.Cols != h.Order() {
			panic(badOrder)
		}
		block := h.Order() / h.Blocks()
		root := math.Sqrt(float64(block))
		y := make([]float32, x.Cols)
		for m := range x.Rows {
			row := x.Row(m)
			for i := range y {
				sum := 0.0
				for j := i / block * block; j < (i/block+1)*block; j++ {
					sum += float64(h.Sign(i, j)) * float64(row[j])
				}
				y[i] = float32(sum / root)
			}
			copy(row, y)
		}
	}
}

const badOrder = "ref: columns of x are not the order of the rotation"
