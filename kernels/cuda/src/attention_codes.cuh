// The two 8-bit codes of queries and keys, and the layout of a tile's rows of D bytes.
#pragma once
#include "wgmma.cuh"
#include "wgmma_shared.cuh"

namespace attention {

enum class Codes { INT8, E4M3 };

// Byte of chunk `chunk` (16 bytes) of a row of D bytes: SWIZZLE_128B for D = 128, SWIZZLE_64B for D = 64.
template <int D>
__device__ __forceinline__ uint32_t chunk_at(int row, int chunk) {
  return row * D + ((chunk ^ (D == 128 ? row & 7 : row >> 1 & 3)) << 4);
}

template <int D>
__device__ __forceinline__ uint64_t descriptor(uint32_t address) {
  return D == 128 ? ptx::wgmma_descriptor(address) : ptx::wgmma_descriptor_64(address);
}

// Integers below 2^22 in magnitude are the low bits of a float near 1.5 x 2^23, whose unit is 1: an addition converts one, to the nearest and even,
// where the conversions proper go through the unit that exp2 needs, at an eighth of the rate. What is added has been rounded before: no fused
// multiply-add, which the twin does not have.
constexpr float UNITS = 0x1.8p23f;
constexpr uint32_t UNITS_BITS = 0x4B400000;
__device__ __forceinline__ uint32_t integer(float x) { return __float_as_uint(__fadd_rn(x, UNITS)); }  // of its bits the low byte counts
__device__ __forceinline__ float number(uint32_t i) { return __fadd_rn(__uint_as_float(i + UNITS_BITS), -UNITS); }

// Four numbers, divided by their scale, as four bytes.
__device__ __forceinline__ uint32_t pack_int8(float a, float b, float c, float d) {
  return ptx::permute(ptx::permute(integer(a), integer(b), 0x0040), ptx::permute(integer(c), integer(d), 0x0040), 0x5410);
}
__device__ __forceinline__ uint32_t pack_e4m3(float a, float b, float c, float d) {
  return ptx::e4m3_of_floats(a, b) | ptx::e4m3_of_floats(c, d) << 16;
}

// Multiplies a row of N LANES channels by the Hadamard matrix of ones and minus ones (FlashAttention-3, arXiv 2407.08608, section 3.3), then by
// `factor`. The lane at place p of LANES neighbours has the channels [N p, N (p + 1)). Pairs of channels 1 apart first, then 2, 4, ...: the twin's order.
template <int N, int LANES>
__device__ __forceinline__ void turn_row(float (&x)[N], int place, float factor) {
#pragma unroll
  for (int apart = 1; apart < N; apart *= 2)
#pragma unroll
    for (int i = 0; i < N; i++)
      if (!(i & apart)) {
        const float a = x[i], b = x[i + apart];
        x[i] = a + b, x[i + apart] = a - b;
      }
#pragma unroll
  for (int apart = 1; apart < LANES; apart *= 2)
#pragma unroll
    for (int i = 0; i < N; i++) {
      const float other = __shfl_xor_sync(~0u, x[i], apart);
      x[i] = place & apart ? other - x[i] : x[i] + other;
    }
#pragma unroll
  for (int i = 0; i < N; i++) x[i] *= factor;
}

// Products of 64 rows and 128 keys: the accumulator of a warpgroup.
template <Codes CODES>
struct Scores;

template <>
struct Scores<Codes::INT8> {
  uint32_t s[64];
  static __device__ __forceinline__ uint32_t pack(float a, float b, float c, float d) { return pack_int8(a, b, c, d); }
  __device__ __forceinline__ void issue(uint64_t q, uint64_t k, int accumulate) { ptx::WgmmaS8<128>::issue(s, q, k, accumulate); }
  __device__ __forceinline__ void products(float (&x)[64]) const {
#pragma unroll
    for (int i = 0; i < 64; i++) x[i] = number(s[i]);  // at most 127 x 127 x 128
  }
};

template <>
struct Scores<Codes::E4M3> {
  float s[64];
  static __device__ __forceinline__ uint32_t pack(float a, float b, float c, float d) { return pack_e4m3(a, b, c, d); }
  __device__ __forceinline__ void issue(uint64_t q, uint64_t k, int accumulate) { ptx::WgmmaE4M3<128>::issue(s, q, k, accumulate); }
  __device__ __forceinline__ void products(float (&x)[64]) const {
#pragma unroll
    for (int i = 0; i < 64; i++) x[i] = s[i];
  }
};

}  // namespace attention
