package kernels

import (
	"math"

	"quantize/tensor"
)

// The functions of this file replace a group by what it decodes to: the codecs of
// packer/kvcode.go in one pass, without codes.

// half is 1.5·2^23: x + half - half is x rounded to an integer, to nearest even,
// for |x| < 2^22, and still far outside a code's range for any larger |x|.
const half = 0x1.8p23

const maxF16 = 65504

func roundKV4(x []float32) {
	top := magnitude(x)
	if top > math.MaxFloat32 || top != top {
		fill(x, float32(math.NaN()))
		return
	}
	s := max(tensor.RoundE4M3(top/7), 0x1p-9)
	for i, v := range x {
		q := v/s + half - half
		if q > 7 {
			q = 7
		} else if q < -8 {
			q = -8
		}
		x[i] = q * s
	}
}

func roundKV4Asymmetric(x []float32) {
	lo, hi := span(x)
	offset := tensor.F16Value(tensor.F16Bits(lo))
	s := max(tensor.F16Value(tensor.F16Bits((hi-lo)/15)), 0x1p-14)
	if !(s <= maxF16 && offset >= -maxF16 && offset <= maxF16) {
		fill(x, float32(math.NaN()))
		return
	}
	for i, v := range x {
		u := (v-offset)/s + half - half
		if u > 15 {
			u = 15
		} else if u < 0 {
			u = 0
		}
		x[i] = offset + float32(u*s)
	}
}

func roundKV8(x []float32, s float32) {
	for i, v := range x {
		x[i] = s * tensor.RoundE4M3(v/s)
	}
}

func roundQuery8(x []float32) {
	roundKV8(x, max(magnitude(x)/tensor.MaxE4M3, 0x1p-126))
}

// magnitude is the largest |x|, compared by bits: NaN is above all.
func magnitude(x []float32) float32 {
	var top uint32
	for _, v := range x {
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	return math.Float32frombits(top)
}

// span returns min x and max x, compared as integers of the same order; a NaN is
// beyond both infinities, on the side of its sign.
func span(x []float32) (lo, hi float32) {
	low, high := int32(math.MaxInt32), int32(math.MinInt32)
	for _, v := range x {
		b := ordered(int32(math.Float32bits(v)))
		low, high = min(low, b), max(high, b)
	}
	return math.Float32frombits(uint32(ordered(low))), math.Float32frombits(uint32(ordered(high)))
}

// ordered turns the bits of a number into an integer that grows with it, and back.
func ordered(b int32) int32 { return b ^ (b>>31)&math.MaxInt32 }

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
