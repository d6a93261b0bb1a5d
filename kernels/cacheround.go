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
	if !(hi-lo < 0x1p127) {
		fill(x, float32(math.NaN()))
		return
	}
	s := max(tensor.BF16Value(tensor.BF16Bits((hi-lo)/15)), 0x1p-126)
	z := -lo/s + half - half
	for i, v := range x {
		u := v/s + half - half // the code without its zero point; lo/s rounds to -z
		if u > 15-z {
			u = 15 - z
		}
		x[i] = u * s
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

// span returns min(0, x) and max(0, x). As a signed integer the largest bits are
// those of the largest positive number, as an unsigned one those of the smallest
// negative one; a NaN is beyond both.
func span(x []float32) (lo, hi float32) {
	low, high := uint32(1<<31), int32(0)
	for _, v := range x {
		b := math.Float32bits(v)
		low, high = max(low, b), max(high, int32(b))
	}
	return math.Float32frombits(low), math.Float32frombits(uint32(high))
}

func fill(x []float32, v float32) {
	for i := range x {
		x[i] = v
	}
}
