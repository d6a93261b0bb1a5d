package cpu

import (
	"math"

	"quantize/tensor"
)

// minTokenScale is the floor of a token's scale, 1/(448·512).
const minTokenScale float32 = 1.0 / (tensor.MaxE4M3 * 512)

// RoundTokens writes a[m]·e4m3(x[m,k]/a[m]) for every token m into dst, with
// a[m] = max(max_k |x[m,k]|/448, 1/(448·512)): ref.QuantizeToken and its inverse.
func (c *Compute) RoundTokens(dst, x tensor.Matrix) { c.roundTokens(dst, x, nil) }

// roundTokens is RoundTokens where scale is nil; else it writes a into scale and
// e4m3(x/a) alone into dst.
func (c *Compute) roundTokens(dst, x tensor.Matrix, scale []float32) {
	maxAbs, round := tokenFuncsOf(c.kern.isa)
	whole := 0
	if round != nil {
		whole = x.Cols / c.kern.lanes * c.kern.lanes
	}
	c.rowwise(x.Rows, x.Cols, func(i int) {
		in, out := x.Row(i), dst.Row(i)
		top := largestOf(in, whole, maxAbs)
		a := max(top/tensor.MaxE4M3, minTokenScale)
		by := a
		if scale != nil {
			scale[i], by = a, 1
		}
		if whole > 0 {
			round(&out[0], &in[0], whole, a, by)
		}
		for k := whole; k < len(in); k++ {
			out[k] = by * tensor.RoundE4M3(in[k]/a)
		}
	})
}

// largestOf is maxAbsOf, with vectors for the first whole elements.
func largestOf(x []float32, whole int, vectors func(x *float32, n int) float32) float32 {
	top := maxAbsOf(x[whole:])
	if whole > 0 {
		top = larger(top, vectors(&x[0], whole))
	}
	return top
}

// maxAbsOf returns the largest magnitude, NaN above all: where x has a NaN the
// scale is NaN and so is the whole token, as the sums over k would be.
func maxAbsOf(x []float32) float32 {
	top := float32(0)
	for _, v := range x {
		top = larger(top, math.Float32frombits(math.Float32bits(v)&^(1<<31)))
	}
	return top
}

// larger compares magnitudes by their bits.
func larger(a, b float32) float32 {
	return math.Float32frombits(max(math.Float32bits(a), math.Float32bits(b)))
}
