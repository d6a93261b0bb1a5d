// Package kerneltest is the one suite that every backend passes, so that the
// plain twin and the fast kernels meet the same shapes and data.
//
//	func TestKernels(t *testing.T) { kerneltest.Run(t, cpu.New()) }
//
// In: a kernels.Backend. Out: test failures.
//
// Every case computes the formula once more, in float64 and straight from the
// stored bits ([Want]), together with the sum of magnitudes that bounds the
// rounding error of FP32 arithmetic in any order:
//
//	|got - want| <= c·K·2^-24·Σ|a||b|         (bounds.go; docs/numerics.md)
//
// Operands lie between guard words, at an odd offset and with rows further
// apart than they are long; guards and outputs are filled with NaN, so that a
// read outside an operand, or an element that is not written, shows; inputs
// must come back unchanged.
//
// [RunAttention] is the suite of a kernels.Attender: float64 attention of the operands
// and of what a format rounds them to, by the relative L2 error of a case. It returns the
// formats that ran, which the caller holds against those it must have:
//
//	ran := kerneltest.RunAttention(t, ref.New()) // must be kerneltest.AttentionFormats()
//
// To add a case, add a line to linearShapes, int4Shapes, attentions or kinds;
// to attentionShapes or attentionFormats for an Attender.
package kerneltest
