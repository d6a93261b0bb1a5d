package packer

import (
	"math"

	"quantize/tensor"
)

// The functions of this file round one group: the channels of one token and
// head that share a scale. Codes, x and dst have the same length. Quotients are
// rounded to FP32 before they are rounded to a code, to nearest even both times,
// so that any machine gives the same codes; products of a code and a scale are
// exact. The FP32 quotient of an exact tie is exact.

// EncodeKV4 rounds x to symmetric INT4 with an E4M3 scale (FireQ,
// arXiv 2505.20839; docs/methods.md 1.11):
//
//	s = max(e4m3(max|x| / 7), 2^-9)
//	q = clamp(round(x / s), -8, 7)        x' = q·s
//
// |x - x'| <= s/2 (and 2^-22·s, from the quotient), except where |x| > 7.5 s:
// when max|x| is above 7·448, or so small that s is a subnormal E4M3 value. A group
// with a NaN or an infinity has the scale NaN and codes 0.
func EncodeKV4(codes []int8, x []float32) (scale float32) {
	checkGroup(len(codes), len(x))
	top := largestMagnitude(x)
	if !(top <= math.MaxFloat32) {
		clear(codes)
		return nan32
	}
	scale = max(tensor.RoundE4M3(top/7), 0x1p-9)
	for i, v := range x {
		codes[i] = int8(min(max(math.RoundToEven(float64(v/scale)), -8), 7))
	}
	return scale
}

// DecodeKV4 writes q·s.
func DecodeKV4(dst []float32, codes []int8, scale float32) {
	checkGroup(len(codes), len(dst))
	for i, q := range codes {
		dst[i] = float32(q) * scale
	}
}

// EncodeKV4Asymmetric rounds x to UINT4 with a BF16 scale and a zero point, both
// for the group (QServe, arXiv 2405.04532, with an integer zero point):
//
//	lo = min(0, min x)    hi = max(0, max x)
//	s  = max(bf16((hi - lo) / 15), 2^-126)
//	z  = round(-lo / s)                      0 .. 15: -lo/s <= 15 + 15·2^-8
//	u  = min(round(x / s) + z, 15)           x' = (u - z)·s;  round(lo / s) = -z
//
// Zero is always exact. |x - x'| <= s/2 (and 2^-21·s, from the quotient) up to the
// last code; above it, where rounding z may leave hi by half a step and rounding s to
// BF16 by 15·2^-8 steps more, s/2 + s/16. A group with a NaN or an infinity, or of a
// range of 2^127 and more, has the scale NaN and codes 0.
func EncodeKV4Asymmetric(codes []uint8, x []float32) (scale float32, zero uint8) {
	checkGroup(len(codes), len(x))
	var lo, hi float32
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	if !(hi-lo < 0x1p127) { // 15·s is finite
		clear(codes)
		return nan32, 0
	}
	scale = max(tensor.BF16Value(tensor.BF16Bits((hi-lo)/15)), 0x1p-126)
	z := math.RoundToEven(float64(-lo / scale))
	for i, v := range x {
		codes[i] = uint8(min(math.RoundToEven(float64(v/scale))+z, 15))
	}
	return scale, uint8(z)
}

// DecodeKV4Asymmetric writes (u - z)·s.
func DecodeKV4Asymmetric(dst []float32, codes []uint8, scale float32, zero uint8) {
	checkGroup(len(codes), len(dst))
	for i, u := range codes {
		dst[i] = float32(int(u)-int(zero)) * scale
	}
}

// EncodeKV8 rounds x to E4M3 with a given scale, as vLLM caches keys and values
// in FP8: e4m3(x / s), saturating. A NaN stays one.
func EncodeKV8(codes []uint8, x []float32, scale float32) {
	checkGroup(len(codes), len(x))
	for i, v := range x {
		codes[i] = tensor.E4M3(v / scale)
	}
}

// EncodeQuery8 is EncodeKV8 with the scale of one token and head,
// max(max|x|/448, 2^-126), which it returns. A NaN or an infinity in x makes all
// of x' NaN.
func EncodeQuery8(codes []uint8, x []float32) (scale float32) {
	scale = max(largestMagnitude(x)/tensor.MaxE4M3, 0x1p-126)
	EncodeKV8(codes, x, scale)
	return scale
}

// DecodeKV8 writes e4m3⁻¹(code)·s.
func DecodeKV8(dst []float32, codes []uint8, scale float32) {
	checkGroup(len(codes), len(dst))
	for i, c := range codes {
		dst[i] = tensor.E4M3Value(c) * scale
	}
}

// KV8Scale is the static scale of an FP8 cache (docs/formats.md 6.2), given the
// largest magnitude of each channel as it is cached: the largest of them by 448; 1,
// which runtimes take for unset, where all are zero.
func KV8Scale(channels []float32) float32 {
	top := largestMagnitude(channels)
	if top == 0 {
		return 1
	}
	return max(top/tensor.MaxE4M3, 0x1p-126)
}

// largestMagnitude is NaN when x has a NaN.
func largestMagnitude(x []float32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, float32(math.Abs(float64(v))))
	}
	return top
}

var nan32 = float32(math.NaN())

func checkGroup(codes, values int) {
	if codes != values {
		panic("packer: a group has as many codes as values")
	}
}
