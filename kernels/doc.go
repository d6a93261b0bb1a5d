// Package kernels says what a backend is and opens a checkpoint for one.
// The backends are its sub-packages:
//
//	ref         plain Go, reads like the formula; what every other is held to
//	cpu         packed FP32 GEMM and attention in AMX / AVX-512 / AVX2, both cores
//	kerneltest  one list of shapes and data that all backends run
//
// In: stored weights (package packer) and FP32 activations (M, K). Out: FP32
// (M, N). M, N, K are tokens, output features, input features.
//
// # Stored layouts
//
// An INT4 row, weight_packed (N, K/8) int32, little endian, offset binary:
//
//	word j of row n     bit 31            ...              bit 0
//	                   | q+8  | q+8  | q+8  |   ...  | q+8  | q+8  |
//	              k =    8j+7   8j+6   8j+5     ...    8j+1   8j
//
//	q(n, k) = (word[n·K/8 + k/8] >> 4·(k mod 8) & 15) - 8        -8 .. 7
//
// Its scales, weight_scale (N, K/g) BF16, one a group of g columns:
//
//	row n     | s[n,0]       | s[n,1]       | ... | s[n,K/g-1] |
//	columns   | 0 .. g-1     | g .. 2g-1    | ... | .. K-1     |
//
//	w(n, k) = q(n, k) · s[n·K/g + k/g]
//
// With FP8 activations the scale of a group is split at load, in FP32:
//
//	chan[n]  = max(max_g s[n,g]/448, 1/(448·512))
//	s8[n,g]  = e4m3(s[n,g]/chan[n]),   s8' = 8·e4m3(s8/8)
//	exact:   q·s8' · chan              lut: 8·e4m3(q·s8'/8) · chan
//
// (vLLM 0.26 CompressedTensorsW4A8Fp8; arXiv 2505.20839 has the same grid
// without chan.) An FP8 row is weight (N, K), one E4M3 byte an element,
// with weight_scale (N, 1).
//
// # In memory
//
// A backend expands a weight once, when it is loaded, into its own order.
// cpu keeps FP32 panels: R rows of the weight interleaved by column, so that
// the inner loop reads one contiguous stream,
//
//	panel p    | w(pR,0) w(pR+1,0) .. w(pR+R-1,0) | w(pR,1) .. | .. w(pR+R-1,K-1) |
//
// of chan[n]·w'(n,k): w' has at most seven significant bits and the chan that
// package packer writes has four, so that is exact. The token scale goes into the
// rounded activation, and the product and its bias are all that is left:
//
//	x (M,K) --per token--> a[m]·x8[m,k] --GEMM with panels, bias--> y (M,N)
//
// The order is never stored in a checkpoint.
package kernels
