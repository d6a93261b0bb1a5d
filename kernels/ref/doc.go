// Package ref is the plain Go twin of every kernel: slow code that reads like
// the formula. Faster backends are held to it by package kerneltest, and the
// documentation links here when it says what a product means.
//
// In: FP32 matrices, or the stored codes and scales of a quantized weight
// (package packer). Out: FP32 matrices.
//
//	Linear       y[m,n]  = Σ_k x[m,k]·w[n,k] + b[n]
//	W4A16        y[m,n]  = Σ_k x[m,k]·(q[n,k]·s[n,k/g]) + b[n]
//	W4A8 exact   y[m,n]  = a[m]·chan[n]·Σ_k x8[m,k]·(q[n,k]·s8'[n,k/g]) + b[n]
//	W4A8 lut     y[m,n]  = a[m]·chan[n]·Σ_k x8[m,k]·(8·e4m3(q[n,k]·s8'[n,k/g]/8)) + b[n]
//	FP8 W8A8     y[m,n]  = a[m]·s[n]·Σ_k x8[m,k]·w8[n,k] + b[n]
//	Attend       o[i]    = Σ_j softmax_j(scale·q[i]·k[j])·v[j],  j <= i and j > i-Window
//	Attention    the same of other keys than queries, with masks, lse and fewer bits
//
// a and x8 come from [QuantizeToken]; chan and s8 are derived from the stored
// scales as vLLM derives them at load, and s8' = 8·e4m3(s8/8), because vLLM
// stores the eighth of every group scale and both grids must see one number.
//
// Every sum is a float64 sum over k in ascending order, rounded to FP32 once,
// when y is stored; scales are applied and the bias is added before that. Attention is
// the exception: [AttentionOperands.Attend] keeps the FP32 state of FlashAttention's
// tiles, [RoundAttention] the codes of SageAttention2 and FireQ that they multiply, and
// [ExactAttention] is float64 throughout.
package ref
