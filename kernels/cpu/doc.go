// Package cpu is the fast arithmetic of a forward pass on processors: FP32
// products with packed weights, causal attention, attention in INT8, INT4 and FP8
// and the elementwise steps between them, in assembly for AVX2, AVX-512 and AMX and
// in plain Go elsewhere.
//
// In: FP32 matrices and, for linears, weights row by row. Out: FP32 matrices.
//
// # Products
//
// A weight (N, K) is packed once, when the linear is made, into panels of as
// many output features as a tile is wide (pack.go). A product y = x·Wᵀ + b then
// is (gemm.go, after Goto and van de Geijn 2008 and Van Zee and van de Geijn,
// "BLIS", TOMS 41.3, 2015):
//
//	x (M, K), one task's rows              packed W
//	┌──────── block of k ────────┐        ┌ panel ┬ panel ┬ ...
//	│ tile of rows ──broadcast─┐ │        │ k = 0 : cols weights
//	├──────────────────────────┼─┤   ×    │ k = 1 : cols weights    =   y tile in registers
//	│                          ▼ │        │ ...     (one or two       AVX2     6 x 16
//	└────────────────────────────┘        │          vectors)         AVX-512 14 x 32
//
//	panel of a block of k       first-level cache, reused by every tile of rows
//	rows of a block of k        second-level cache, reused by every panel
//	next panel                  prefetched a few lines a tile
//
// # Products on AMX
//
// AMX multiplies tiles of BF16 and sums in FP32, at some twenty times the rate of
// FP32 vectors. A BF16 has 8 bits and an FP32 24, so each number is cut into three
// BF16 parts whose sum it is (parts.go, partsproduct.go; the cut into parts is that
// of Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence
// Datatype For Higher-Precision Computations", ARITH 2019):
//
//	x = x1 + x2 + x3    w = w1 + w2 + w3
//	x·w = x3·w1 + x2·w2 + x1·w3 + x1·w2 + x2·w1 + x1·w1    x2·w3 and x3·w2 are below 2^-24 of it
//
// A part that is 0 everywhere is neither stored nor multiplied: a BF16 weight costs
// three products, and one with activations rounded to FP8. Rows of x and of w are
// scaled by powers of two, taken back in the result, so that FP32's range is kept
// although AMX knows no subnormal numbers.
//
// # Attention
//
// Attend (attend.go, attendtile.go) is tiled with a running maximum and sum;
// both of its products are the same tiles over keys and values packed once a
// call. Blocks, panels and tiles that the causal mask or the window hides
// entirely are left out, about half of the work.
//
// Attention (attention.go) rounds queries, keys, probabilities and values to the
// codes of its twin and multiplies them, as FP32 numbers, in the same tiles. It
// computes what a kernel in those bits computes and is no faster than Attend. It
// takes several sequences and block masks; full precision and cached keys it
// refuses with kernels.ErrUnsupported.
//
// # Results
//
// Every element of a product is, block of k by block of k, one chain of fused
// multiply-adds in the order of k (on AMX 32 steps of k at a time, in its order). It
// depends on K and on the instruction set, not on M, on its place in the matrix or on the number of workers; instruction
// sets differ from each other by rounding only. Bounds: docs/numerics.md.
//
// # Instruction sets
//
// The best one of the processor is used; the environment variable QUANTIZE_CPU
// (generic, avx2, avx512 or amx) forces one, the build tag noasm leaves only plain
// Go. The assembly is written by gen, a module of its own because avo needs
// packages that the program does not.
package cpu

//go:generate go run -C gen . ..
