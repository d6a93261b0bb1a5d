// Package tensor has the two things that every other package speaks of: FP32
// matrices and the element types of a checkpoint, with their codecs.
//
// In come raw little-endian bytes of a safetensors file, out come FP32 values,
// and back:
//
//	[]byte --Decode--> []float32 --Encode--> []byte    F64 F32 F16 BF16 F8_E4M3 F8_E5M2
//	[]int8 -PackInt4-> []uint32 -UnpackInt4-> []int8   INT4, eight codes a word
//
// Every encoder rounds to nearest, ties to even. The formats:
//
//	       sign exp mantissa bias  largest  smallest normal / subnormal  specials
//	F16      1   5    10      15    65504    2^-14 / 2^-24                Inf, NaN
//	BF16     1   8     7     127    3.39e38  2^-126 / 2^-133              Inf, NaN
//	E4M3     1   4     3       7    448      2^-6 / 2^-9                  NaN 0x7F 0xFF, no Inf
//	E5M2     1   5     2      15    57344    2^-14 / 2^-16                Inf, NaN
//
// F16 and BF16 overflow to infinity as IEEE 754 says. The two FP8 formats
// saturate, infinities included, as cvt.satfinite does on a GPU; PyTorch's cast
// gives NaN there, which no kernel wants. NaN stays NaN everywhere.
//
// # How a float is rounded without a branch
//
// For |x| = 1.f * 2^e add the power of two whose last place is the last place
// of the target at that exponent, 2^(e + 23 - mantissa bits). The FPU then
// rounds |x| to the target's precision, to nearest even, and the low bits of
// the sum are the significand as an integer u (the bits above are dropped by the
// conversion to the code's width). With e held at the target's
// smallest normal exponent emin the same sum rounds subnormals, and
//
//	code = (e - emin) << mantissa bits + u
//
// is right for both, since a significand that rounds up to the next power of
// two carries into the exponent field.
//
// # Assembly
//
// With AVX2, Decode and Encode of the 8- and 16-bit types run assembly that gives
// the same bits as the codecs, NaN included; QUANTIZE_CPU=generic, the build tag
// noasm and other processors leave plain Go. The assembly is written by gen, a
// module of its own because avo needs packages that the program does not.
//
// FP8: Micikevicius et al., FP8 Formats for Deep Learning (arXiv:2209.05433).
package tensor

//go:generate go run -C gen . ..
