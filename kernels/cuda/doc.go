// Package cuda multiplies INT4 weights by E4M3 activations on Hopper GPUs
// (sm_90a), and attends in 8 bits to keys and values as they are or in an INT4
// cache, from Go.
//
// The layouts, the packer, the dispatch table and the manifest of the compiled
// kernels are plain Go and in every build. Driving the card needs -tags cuda, a
// C compiler and a driver: [gorgonia.org/cu] and a thin cgo companion
// (driver.go). The kernels are src/*.cu, compiled ahead of time (make kernels)
// to cubin/, which is embedded; no nvcc is needed to use them.
//
//	K0  reference.cu  slow kernels that read like the formula; they check the others
//	K1  quantize.cu   activations to E4M3 per token, alone, behind RMSNorm, behind SiLU·up
//	K2  repack.cu     stored codes and scales to fragment order; Pack is the twin
//	K3  prefill.cu    the product for many tokens
//	K4  decode.cu     the product for few tokens
//	    mainloop.cuh  what a warpgroup of K3 and K4 does
//	K5  attention_quantize.cu  keys and values to 8 bits, in tiles
//	    attention.cu           prefill attention over them
//	    attention_cache.cu     the same over an INT4 cache
//	K6  kvappend.cu   new keys and values into an INT4 cache ([KVLayout])
//	    kvdecode.cu   attention of one query token a sequence over it
//	    probe.cu      what the hardware does and how fast
//
// # The product
//
//	y[m,n] = a[m]·chan[n]·Σ_k x8[m,k]·(q[n,k]·s8'[n,k/g]) + b[n]      exact
//	y[m,n] = a[m]·chan[n]·Σ_k x8[m,k]·8·e4m3(q·s8'/8) + b[n]          table: vLLM's and FireQ's arithmetic
//
// as kernels/ref writes it out; y is BF16. x8·q is summed over one group on the
// tensor core (about 13 fraction bits), everything else is FP32.
//
// Operands are swapped: the weight must be converted in registers, and only the
// first operand of wgmma may come from registers. So D (channels, tokens) =
// W (channels, k) · Xᵀ, and 64 channels fill an instruction however few the
// tokens are.
//
// # A unit of weights
//
// 64 channels by 128 k (a slab) are one contiguous unit: 4096 bytes of codes and
// one E4M3 byte e4m3(s8/8) a channel and group, 64 bytes at group size 128 and
// 128 at 64. Units lie as [N/64][K/128]; N is padded to a multiple of 256 and K
// to one of 128 with zeros.
//
//	codes   [half 0..1][thread 0..127][16 bytes]       thread = 32·warp + 4·g + t
//	        16 bytes = four words of eight codes: (step 2·half,   row g) (.., row g+8)
//	                                              (step 2·half+1, row g) (.., row g+8)
//	scales  [warp 0..3][g 0..7][group of the slab][row g, row g+8]
//
// Step s of a slab is one wgmma of 32 k, whose A fragment a thread holds as four
// registers of four bytes (PTX ISA, wgmma register fragments):
//
//	a0  row 16·warp+g      k = 32s + 4t ..+3          word of row g:    a0 and a2
//	a1  row 16·warp+g+8    k = 32s + 4t ..+3          word of row g+8:  a1 and a3
//	a2  row 16·warp+g      k = 32s + 16 + 4t ..+3
//	a3  row 16·warp+g+8    k = 32s + 16 + 4t ..+3
//
// and the accumulators of tokens 8j+2t and 8j+2t+1 are d[4j], d[4j+1] for row g,
// d[4j+2], d[4j+3] for row g+8.
//
// A word holds the codes u_0..u_3 of its first register and v_0..v_3 of its
// second, as sign and magnitude:
//
//	byte i   bit 7      6..4            3             2..0
//	        | sign u_i | magnitude v_i | sign v_{i-1} | magnitude u_i |     v_{-1} is v_3
//
// The byte (sign, 0000, magnitude) is an E4M3 number, magnitude·2^-9: masking
// gives the first register, rotating right by four and masking the second. The
// magnitude of a negative code is |q| where the tensor has no -8 (Signed7), and
// |q|-1, to which the kernel adds 1, where it has (Signed8).
//
// # Activations
//
// x8 lies as [K/128][rows][128 bytes], the 16-byte chunk c of row m at place
// c XOR (m mod 8): consecutive rows of a slab are one contiguous copy and, in
// shared memory, a K-major wgmma tile with 128-byte swizzle. Rows are padded to a
// multiple of 8; what the padding holds is never stored.
//
// # Keys and values of prefill attention
//
// The keys of a sequence and KV head are tiles of 128, [tile][128 keys][D] bytes
// (INT8 or E4M3), which one bulk copy brings to shared memory, where they are the
// K-major second operand of Q·Kᵀ. A row's 16-byte chunks are swizzled within the row:
//
//	D = 128   chunk c of key j at place c XOR (j mod 8)         SWIZZLE_128B
//	D =  64   chunk c of key j at place c XOR (j/2 mod 4)       SWIZZLE_64B
//
//	            16 bytes
//	key 0   | c0 | c1 | c2 | c3 | c4 | c5 | c6 | c7 |      D = 128
//	key 1   | c1 | c0 | c3 | c2 | c5 | c4 | c7 | c6 |
//	key 2   | c2 | c3 | c0 | c1 | c6 | c7 | c4 | c5 |
//	 ...
//
// A lane t of a quad holds the scores of keys 8i+2t and 8i+2t+1, which share one
// scale: [tile][4] float32.
//
// Values lie transposed, [tile][D channels][128 keys], E4M3, swizzled as for D = 128,
// because wgmma takes 8-bit operands K-major only. Within 16 keys (a chunk) the order is
//
//	place   0  1  2  3   4  5  6  7   8  9 10 11  12 13 14 15
//	key     0  1  8  9   2  3 10 11   4  5 12 13   6  7 14 15
//
// so that the scores which a lane holds, keys 2t, 2t+1 of two blocks of eight, are the
// four neighbours that the A fragment of P·V wants of it: probabilities go from
// accumulators to operands without a shuffle. Keys beyond the last are zeros.
//
// [gorgonia.org/cu]: https://pkg.go.dev/gorgonia.org/cu
package cuda
