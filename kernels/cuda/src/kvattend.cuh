// K6's inner loop: one warp and one record of an INT4 cache. kvdecode.cu has the formulas and the operands' shapes.
#pragma once
#include <cuda_fp16.h>

#include "kvcache.cuh"
#include "ptx.cuh"

namespace kv {

constexpr uint32_t CODES = 0x000F000F, CODES_16 = 0x00F000F0;  // halves u 2^-24 and 16 u 2^-24
constexpr uint32_t ALL = 0xFFFFFFFF;

__device__ __forceinline__ void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// The 8x8 matrix of a warp's halves, transposed.
__device__ __forceinline__ uint32_t transposed(half2 two) {
  uint32_t h;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(h) : "r"(*reinterpret_cast<const uint32_t *>(&two)));
  return h;
}

// The words of a token's keys that thread t of its quad multiplies.
template <int WORDS>
__device__ __forceinline__ void load_words(const uint8_t *from, uint32_t (&w)[WORDS]) {
  if constexpr (WORDS == 4) {
    const uint4 v = *reinterpret_cast<const uint4 *>(from);
    w[0] = v.x, w[1] = v.y, w[2] = v.z, w[3] = v.w;
  } else {
    const uint2 v = *reinterpret_cast<const uint2 *>(from);
    w[0] = v.x, w[1] = v.y;
  }
}

// Scale and offset of entry i of a record's parameters.
template <bool AFFINE>
__device__ __forceinline__ float2 parameter(const uint8_t *from, int i) {
  if constexpr (AFFINE) {
    return __half22float2(reinterpret_cast<const half2 *>(from)[i]);
  } else {
    const uint32_t h = ptx::halves_of_e4m3(from[i]);
    const float scale = __low2float(*reinterpret_cast<const half2 *>(&h));
    return make_float2(scale, -8 * scale);
  }
}

__device__ __forceinline__ float power_of_two(int exponent) { return __uint_as_float(uint32_t(exponent + 127) << 23); }

// What a warp has of its records.
template <int D, int GROUPS>
struct Partial {
  float o[D / 16][4];       // outputs over 2^10 · 2^exponent: [16 channels][row g: queries 2t, 2t+1; row g+8, 16 times: the same]
  float offset[GROUPS][2];  // sum of p · offset', of this lane's tokens
  float m[2], l[2];         // of queries 2t, 2t+1: the largest score, in log2, and the sum of p of this lane's tokens
  int exponent;             // of the largest scale of values so far: p · scale' is rounded to halves over 2^exponent, times 2^14
};

template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void attend(const uint8_t *record, int valid, const uint32_t (&q)[D / 32][4], const float (&sum)[D / GROUP][2],
                                       const float (&factor)[2], Partial<D, D / GROUP> &a) {
  using R = Record<D, GROUP, AFFINE>;
  constexpr int WORDS = D / 32, GROUPS = D / GROUP;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;

  float s[4][4];
#pragma unroll
  for (int tile = 0; tile < 4; tile++) {
    uint32_t low[WORDS], high[WORDS];  // tokens g and g + 8
    load_words(record + (16 * tile + g) * (D / 2) + t * (D / 8), low);
    load_words(record + (16 * tile + g + 8) * (D / 2) + t * (D / 8), high);
    float c[GROUPS][4] = {};
#pragma unroll
    for (int j = 0; j < WORDS; j++) {
      float(&to)[4] = c[j * 32 / GROUP];
      multiply(to, low[j] & CODES, high[j] & CODES, low[j] & CODES_16, high[j] & CODES_16, q[j][0], q[j][1]);
      low[j] >>= 8, high[j] >>= 8;
      multiply(to, low[j] & CODES, high[j] & CODES, low[j] & CODES_16, high[j] & CODES_16, q[j][2], q[j][3]);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) s[tile][i] = 0;
#pragma unroll
    for (int k = 0; k < GROUPS; k++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const float2 key = parameter<AFFINE>(record + R::KEY_PARAMETERS, k * BLOCK + 16 * tile + g + 8 * h);
#pragma unroll
        for (int i = 0; i < 2; i++) s[tile][2 * h + i] += key.x * c[k][2 * h + i] + key.y * sum[k][i];
      }
#pragma unroll
    for (int i = 0; i < 4; i++) s[tile][i] = 16 * tile + g + i / 2 * 8 < valid ? s[tile][i] * factor[i % 2] : -INFINITY;
  }

  float top[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    top[i] = a.m[i];
#pragma unroll
    for (int tile = 0; tile < 4; tile++) top[i] = fmaxf(top[i], fmaxf(s[tile][i], s[tile][2 + i]));
#pragma unroll
    for (int shift = 4; shift < 32; shift *= 2) top[i] = fmaxf(top[i], __shfl_xor_sync(ALL, top[i], shift));
  }
  unsigned largest = 0;  // bits of positive floats grow with them
#pragma unroll
  for (int k = 0; k < GROUPS; k++)
#pragma unroll
    for (int h = 0; h < 2; h++)
      if (lane + 32 * h < valid)
        largest = max(largest, __float_as_uint(parameter<AFFINE>(record + R::VALUE_PARAMETERS, k * BLOCK + lane + 32 * h).x) & 0x7FFFFFFF);
  const int exponent = max(a.exponent, min(int(__reduce_max_sync(ALL, largest) >> 23), 142) - 127);  // 2^15 has 142; a NaN spoils its group alone
  float less_o[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float less = ptx::exp2_approx(a.m[i] - top[i]);
    less_o[i] = less * power_of_two(a.exponent - exponent);
    a.m[i] = top[i];
    a.l[i] *= less;
#pragma unroll
    for (int k = 0; k < GROUPS; k++) a.offset[k][i] *= less;
  }
  a.exponent = exponent;

  const float unit = power_of_two(14 - exponent), unit_inverse = power_of_two(exponent - 14);
  uint32_t weights[4][GROUPS][2];  // B of a tile's values: [tokens 2t, 2t+1; 2t+8, 2t+9] of query g
#pragma unroll
  for (int tile = 0; tile < 4; tile++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      s[tile][i] = ptx::exp2_approx(s[tile][i] - top[i % 2]);
      a.l[i % 2] += s[tile][i];
    }
#pragma unroll
    for (int k = 0; k < GROUPS; k++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        const int token = 16 * tile + g + 8 * h;
        float2 value = parameter<AFFINE>(record + R::VALUE_PARAMETERS, k * BLOCK + token);
        if (token >= valid) value = make_float2(1, 0);  // what lies there may be a NaN; p is zero
        const half2 weight = __floats2half2_rn(s[tile][2 * h] * (value.x * unit), s[tile][2 * h + 1] * (value.x * unit));
        // Of the rounded weight, so that the offset takes away exactly as much as the codes bring.
        const float per_weight = AFFINE ? __fdividef(value.y, value.x * unit) : -8 * unit_inverse;
        a.offset[k][0] += __low2float(weight) * per_weight, a.offset[k][1] += __high2float(weight) * per_weight;
        weights[tile][k][h] = transposed(weight);
      }
  }
  // A record is summed by itself and added in FP32: the tensor cores truncate, and in a long sum of codes, nearly all of which the offset
  // takes away again, that bias would show.
#pragma unroll
  for (int j = 0; j < WORDS; j += 2) {  // 64 channels
    float c[4][4] = {};
#pragma unroll
    for (int tile = 0; tile < 4; tile++) {
      const uint4 w = *reinterpret_cast<const uint4 *>(record + R::VALUES + tile * (8 * D) + j * 256 + lane * 16);
      const uint32_t v[2][2] = {{w.x, w.y}, {w.z, w.w}};  // [32 channels][tokens 2t, 2t+1; 2t+8, 2t+9], four channels each
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const uint32_t(&b)[2] = weights[tile][(j + i) * 32 / GROUP];
        const uint32_t near = v[i][0] >> 8, far = v[i][1] >> 8;
        multiply(c[2 * i], v[i][0] & CODES, v[i][0] & CODES_16, v[i][1] & CODES, v[i][1] & CODES_16, b[0], b[1]);
        multiply(c[2 * i + 1], near & CODES, near & CODES_16, far & CODES, far & CODES_16, b[0], b[1]);
      }
    }
#pragma unroll
    for (int n = 0; n < 4; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) a.o[2 * j + n][i] = a.o[2 * j + n][i] * less_o[i % 2] + c[n][i];
  }
}

}  // namespace kv
