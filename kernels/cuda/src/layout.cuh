// Sizes of the operands' layouts; kernels/cuda/doc.go draws them.
#pragma once

namespace layout {

constexpr int SLAB = 128;            // k of a unit: one row of a swizzled activation tile
constexpr int ROWS = 64;             // channels of a unit: M of wgmma
constexpr int CODE_BYTES = 64 * 64;  // nibbles of a unit

// groups: scales of a row in a slab, 1 for group size 128 and 2 for 64.
__host__ __device__ constexpr int unit_bytes(int groups) { return CODE_BYTES + ROWS * groups; }

// Chunk `chunk` (16 bytes) of token m in a slab of activations, in bytes from the start of the slab.
__device__ __forceinline__ size_t activation_offset(int m, int chunk) { return size_t(m) * SLAB + ((chunk ^ (m & 7)) << 4); }

}  // namespace layout
