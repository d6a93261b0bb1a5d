// Package cpu is the fast arithmetic of a forward pass on processors: FP32
// products with packed weights, causal attention, attention in INT8, INT4 and FP8
// and the elementwise steps between them, in assembly for AVX2 and AVX-512 and in
// plain Go elsewhere.
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
// multiply-adds in the order of k. It depends on K and on the instruction set,
// not on M, on its place in the matrix or on the number of workers; instruction
// sets differ from each other by rounding only. Bounds: docs/numerics.md.
//
// # Instruction sets
//
// The best one of the processor is used; the environment variable QUANTIZE_CPU
// (generic, avx2 or avx512) forces one, the build tag noasm leaves only plain
// Go. The assembly is written by gen, a module of its own because avo needs
// packages that the program does not.
package cpu

//go:generate go run -C gen . ..
