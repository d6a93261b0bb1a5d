package packer

import (
	"math"
	"slices"

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

const (
	// minAffineScale is the smallest normal FP16: below it a step would have fewer
	// bits, and its reciprocal no FP16 value.
	minAffineScale = 0x1p-14
	maxF16         = 65504
)

// EncodeKV4Asymmetric rounds x, of at least one channel, to UINT4 with a scale and
// an offset in FP16, both for the group, as QServe stores them (arXiv 2405.04532;
// docs/methods.md 4.4):
//
//	lo = min x               hi = max x          zero is not forced between them
//	offset = f16(lo)
//	s = max(f16((hi - lo) / 15), 2^-14)
//	u = clamp(round((x - offset) / s), 0, 15)    x' = offset + u·s
//
//	|x - x'| <= max(s/2, e + 15·2^-11·s)         e = |offset - lo| <= 2^-11·max(|lo|, 2^-14)
//
// and 2^-18·s + 2^-24·|x| from the steps in FP32. The second term, what rounding
// offset and s leaves outside the codes, is the larger one where a group is narrow
// beside its distance from zero; a group of equal channels is never further off than
// f16(x), so exact where x is an FP16 value. A group with a NaN or an infinity, or
// beyond FP16 (lo or (hi - lo)/15 rounds above 65504), has the scale NaN and codes 0.
func EncodeKV4Asymmetric(codes []uint8, x []float32) (scale, offset float32) {
	checkGroup(len(codes), len(x))
	lo, hi := slices.Min(x), slices.Max(x)
	offset = tensor.F16Value(tensor.F16Bits(lo))
	scale = max(tensor.F16Value(tensor.F16Bits((hi-lo)/15)), minAffineScale)
	if !(scale <= maxF16 && offset >= -maxF16 && offset <= maxF16) {
		clear(codes)
		return nan32, 0
	}
	for i, v := range x {
		codes[i] = uint8(min(max(math.RoundToEven(float64((v-offset)/scale)), 0), 15))
	}
	return scale, offset
}

// DecodeKV4Asymmetric writes offset + u·s.
func DecodeKV4Asymmetric(dst []float32, codes []uint8, scale, offset float32) {
	checkGroup(len(codes), len(dst))
	for i, u := range codes {
		dst[i] = offset + float32(float32(u)*scale)
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
