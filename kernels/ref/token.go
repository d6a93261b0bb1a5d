package ref

import (
	"math"

	"quantize/tensor"
)

const (
	maxE4M3 = 448 // largest E4M3 value

	// MinTokenScale is the floor of an activation scale, 1/(448·512) in FP32:
	// a token of zeros, or nearly, gets it (vLLM, dynamic per-token FP8).
	MinTokenScale float32 = 1.0 / (maxE4M3 * 512)
)

// QuantizeToken rounds one token's activations x to E4M3 with one dynamic
// scale, as vLLM's per-token FP8 quantization does, every step in FP32:
//
//	a        = max(max_k |x[k]| / 448, 1/(448·512))
//	codes[k] = e4m3(clamp(x[k]/a, -448, 448))
//
// It writes len(x) codes and returns a; the value of a code is a·e4m3⁻¹(code).
// A NaN in x does not enter the maximum and becomes a NaN code; an infinite x
// makes a infinite, and its own code NaN.
//
// transformers (compressed-tensors) rounds by the same rule without the floor,
// so the two agree on every token whose maximum is at least 1/512.
func QuantizeToken(codes []uint8, x []float32) (a float32) {
	if len(codes) != len(x) {
		panic(badCodes)
	}
	amax := float32(0)
	for _, v := range x {
		if m := float32(math.Abs(float64(v))); m > amax {
			amax = m
		}
	}
	a = max(amax/maxE4M3, MinTokenScale)
	for k, v := range x {
		codes[k] = tensor.E4M3(min(max(v/a, -maxE4M3), maxE4M3))
	}
	return a
}
