package ref

import (
	"math"
	"math/bits"

	"quantize/tensor"
)

// turn multiplies the channels of each head of queries and keys by the Hadamard matrix of
// Sylvester's order, H[i,j] = (-1)^popcount(i&j) (FlashAttention-3, arXiv 2407.08608,
// section 3.3). Sums are FP32, by pairs of channels 1 apart, then 2, 4, …; the factor
// 1/HeadDim of H·H is a power of two, divided between the two so that neither rounds.
func (o *AttentionOperands) turn() {
	if !o.Attention.Format.Hadamard {
		return
	}
	d := o.Attention.HeadDim
	n := bits.TrailingZeros(uint(d))
	turnHeads(o.Q, d, n/2)
	turnHeads(o.K, d, n-n/2)
}

// turnHeads turns heads of d channels and divides by 2^down.
func turnHeads(x tensor.Matrix, d, down int) {
	factor := float32(math.Ldexp(1, -down))
	for row := range x.Rows {
		for from := 0; from < x.Cols; from += d {
			y := x.Row(row)[from : from+d]
			for apart := 1; apart < d; apart *= 2 {
				for i := range y {
					if j := i ^ apart; i < j {
						y[i], y[j] = y[i]+y[j], y[i]-y[j]
					}
				}
			}
			for i := range y {
				y[i] *= factor
			}
		}
	}
}
