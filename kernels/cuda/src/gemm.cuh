// The arguments of the GEMM kernels and the store of their results.
#pragma once
#include "ptx.cuh"

struct Gemm {
  const uint8_t *w;      // units [blocks][slabs]
  const float *channel;  // [64 blocks]: what the integer sums of a row are multiplied by
  const float *bias;     // [64 blocks], or null
  const uint8_t *x;      // E4M3 [slabs][m_pad][128], swizzled
  const float *token;    // [m]
  uint16_t *y;           // BF16 (m, n), rows n apart
  int m, n, m_pad;       // m_pad: rows of x, a multiple of 8
  int slabs, blocks;     // K/128 rounded up; 64-channel blocks, a multiple of 4 (rows beyond n are zero)
};

// COUNT outputs (two a word) of token m from channel n on; where rows are not aligned to them, or end here, one by one.
template <typename Words>
__device__ __forceinline__ void store_outputs(const Gemm &p, int m, int n, Words v) {
  constexpr int COUNT = sizeof(Words) / 2;
  uint16_t *to = p.y + size_t(m) * p.n + n;
  if (p.n % COUNT == 0) {
    if (n < p.n) *reinterpret_cast<Words *>(to) = v;
    return;
  }
  const uint16_t *values = reinterpret_cast<const uint16_t *>(&v);
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (n + i < p.n) to[i] = values[i];
}

// What the host must know of a kernel to launch it, as a variable NAME_shape that cmd mkcubin reads into the manifest.
#define GEMM_SHAPE(NAME, THREADS, SHARED_BYTES, TOKENS, CHANNELS, CLUSTER) \
  extern "C" __device__ int NAME##_shape[5] = {THREADS, SHARED_BYTES, TOKENS, CHANNELS, CLUSTER};
