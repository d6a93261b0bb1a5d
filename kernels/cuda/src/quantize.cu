// K1: one token's activations to E4M3 with one scale, in the layout that the GEMMs read; alone, behind RMSNorm, behind SiLU(gate) * up.
//
//   a = max(max_k |v_k| / 448, 1/(448*512))      code_k = e4m3(v_k / a)      every step in FP32, with true divisions
//
// (vLLM, dynamic per-token FP8; kernels/ref QuantizeToken is the twin.) A block handles a token; a thread, 16 of its elements at a time.
#include <cuda_bf16.h>

#include "layout.cuh"
#include "ptx.cuh"

struct Quantize {
  const void *x;       // (m, k): the activations, or gate
  const void *second;  // RMSNorm: weight (k); SiLU: up (m, k)
  uint8_t *codes;      // [slabs][m_pad][128], swizzled
  float *token;        // [m]: a
  long long stride;    // elements from one row of x, and of up, to the next
  int m, k, m_pad, slabs;
  float epsilon;
};

namespace {

enum class Before { NOTHING, RMSNORM, SILU };

constexpr int WIDTH = 16;

__device__ __forceinline__ void load(const float *p, float (&v)[WIDTH]) {
#pragma unroll
  for (int i = 0; i < WIDTH / 4; i++) {
    const float4 q = reinterpret_cast<const float4 *>(p)[i];
    v[4 * i] = q.x, v[4 * i + 1] = q.y, v[4 * i + 2] = q.z, v[4 * i + 3] = q.w;
  }
}

__device__ __forceinline__ void load(const __nv_bfloat16 *p, float (&v)[WIDTH]) {
#pragma unroll
  for (int i = 0; i < WIDTH / 8; i++) {
    const uint4 q = reinterpret_cast<const uint4 *>(p)[i];
    const uint32_t words[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      v[8 * i + 2 * j] = __uint_as_float(words[j] << 16);
      v[8 * i + 2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000u);
    }
  }
}

struct Sum {
  static __device__ float join(float a, float b) { return a + b; }
};
struct Max {
  static __device__ float join(float a, float b) { return fmaxf(a, b); }  // a NaN does not enter the maximum
};

// The same on every thread, in one fixed order.
template <typename Op>
__device__ __forceinline__ float over_block(float v, float *scratch) {
#pragma unroll
  for (int i = 16; i > 0; i /= 2) v = Op::join(v, __shfl_xor_sync(0xFFFFFFFF, v, i));
  __syncthreads();
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = v;
  __syncthreads();
  v = scratch[0];
  for (int w = 1; w < blockDim.x / 32; w++) v = Op::join(v, scratch[w]);
  return v;
}

template <typename T, Before BEFORE, int CHUNKS>
__device__ __forceinline__ void quantize(const Quantize &p) {
  __shared__ float scratch[32];
  ptx::launch_dependents();
  ptx::wait_for_predecessor();
  const int m = blockIdx.x;
  const T *x = static_cast<const T *>(p.x) + m * p.stride;
  float v[CHUNKS][WIDTH];
#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    const int k = (c * blockDim.x + threadIdx.x) * WIDTH;
    if (k < p.k) {
      load(x + k, v[c]);
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) v[c][i] = 0;
    }
  }

  if (BEFORE == Before::RMSNORM) {
    float squares = 0;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++)
#pragma unroll
      for (int i = 0; i < WIDTH; i++) squares = fmaf(v[c][i], v[c][i], squares);
    const float scale = 1 / sqrtf(over_block<Sum>(squares, scratch) / p.k + p.epsilon);
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      const int k = (c * blockDim.x + threadIdx.x) * WIDTH;
      if (k < p.k) {
        float weight[WIDTH];
        load(static_cast<const T *>(p.second) + k, weight);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[c][i] = v[c][i] * scale * weight[i];
      }
    }
  }
  if (BEFORE == Before::SILU) {
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
      const int k = (c * blockDim.x + threadIdx.x) * WIDTH;
      if (k < p.k) {
        float up[WIDTH];
        load(static_cast<const T *>(p.second) + m * p.stride + k, up);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) v[c][i] = v[c][i] / (1 + expf(-v[c][i])) * up[i];
      }
    }
  }

  float top = 0;
#pragma unroll
  for (int c = 0; c < CHUNKS; c++)
#pragma unroll
    for (int i = 0; i < WIDTH; i++) top = fmaxf(top, fabsf(v[c][i]));
  const float a = fmaxf(over_block<Max>(top, scratch) / 448, float(1.0 / (448 * 512)));
  if (threadIdx.x == 0) p.token[m] = a;

#pragma unroll
  for (int c = 0; c < CHUNKS; c++) {
    const int chunk = c * blockDim.x + threadIdx.x;
    if (chunk >= p.slabs * 8) continue;
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
      words[i] = ptx::e4m3_of_floats(v[c][4 * i] / a, v[c][4 * i + 1] / a) | ptx::e4m3_of_floats(v[c][4 * i + 2] / a, v[c][4 * i + 3] / a) << 16;
    uint8_t *to = p.codes + size_t(chunk / 8) * p.m_pad * layout::SLAB + layout::activation_offset(m, chunk % 8);
    *reinterpret_cast<uint4 *>(to) = make_uint4(words[0], words[1], words[2], words[3]);
  }
}

}  // namespace

#define QUANTIZE(T, BEFORE, CHUNKS, NAME)                                                              \
  extern "C" __global__ void __launch_bounds__(512) NAME##_##CHUNKS(const __grid_constant__ Quantize p) { \
    quantize<T, Before::BEFORE, CHUNKS>(p);                                                            \
  }
#define QUANTIZE_SIZES(T, BEFORE, NAME) \
  QUANTIZE(T, BEFORE, 1, NAME)          \
  QUANTIZE(T, BEFORE, 2, NAME)          \
  QUANTIZE(T, BEFORE, 4, NAME)

QUANTIZE_SIZES(float, NOTHING, quantize_f32)
QUANTIZE_SIZES(__nv_bfloat16, NOTHING, quantize_bf16)
QUANTIZE_SIZES(__nv_bfloat16, RMSNORM, quantize_rmsnorm_bf16)
QUANTIZE_SIZES(__nv_bfloat16, SILU, quantize_silu_bf16)
QUANTIZE_SIZES(float, RMSNORM, quantize_rmsnorm_f32)
QUANTIZE_SIZES(float, SILU, quantize_silu_f32)
