package cpu

import (
	"math"

	"quantize/tensor"
)

// minTokenScale is the floor of a token's scale, 1/(448·512).
const minTokenScale float32 = 1.0 / (tensor.MaxE4M3 * 512)

// roundTokens writes a[m]·e4m3(x[m,k]/a[m]) for every token m into dst, with
// a[m] = max(max_k |x[m,k]|/448, 1/(448·512)): ref.QuantizeToken and its inverse.
func roundTokens(workers int, dst, x tensor.Matrix) {
	const share = 16 // tokens a task
	parallel(workers, (x.Rows+share-1)/share, func(_, task int) {
		for i := task * share; i < min(x.Rows, (task+1)*share); i++ {
			roundToken(dst.Row(i), x.Row(i))
		}
	})
}

// roundToken rounds one token. Where x has a NaN the whole result is NaN, which
// is what the sums over k would be.
func roundToken(dst, x []float32) {
	a := max(maxAbs(x)/tensor.MaxE4M3, minTokenScale)
	for k, v := range x {
		dst[k] = a * tensor.RoundE4M3(v/a)
	}
}

// maxAbs returns the largest magnitude; magnitudes are ordered as their bits,
// NaN above all.
func maxAbs(x []float32) float32 {
	var top0, top1, top2, top3 uint32
	k := 0
	for ; k+4 <= len(x); k += 4 {
		top0 = max(top0, math.Float32bits(x[k])&^(1<<31))
		top1 = max(top1, math.Float32bits(x[k+1])&^(1<<31))
		top2 = max(top2, math.Float32bits(x[k+2])&^(1<<31))
		top3 = max(top3, math.Float32bits(x[k+3])&^(1<<31))
	}
	for ; k < len(x); k++ {
		top0 = max(top0, math.Float32bits(x[k])&^(1<<31))
	}
	return math.Float32frombits(max(top0, top1, top2, top3))
}
