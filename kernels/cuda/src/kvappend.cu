// K6: new keys and values into the INT4 cache (kvlayout.go draws the records), one warp a token and KV head.
//
//   k' = rotated(k) · kappa - key mean        v' = v - value mean
//
// rounded as packer.EncodeKV4Asymmetric (affine) or packer.EncodeKV4 (symmetric) do, every step in FP32 and rounded by itself, so that codes and
// scales are those of the twins (kernels/ref Rotate, Smooth, EncodeCached), bit for bit. Both layouts keep whole bytes to one token, so a token
// is stored without reading its neighbours.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kvcache.cuh"
#include "ptx.cuh"

struct Append {
  const void *k, *v;        // (batch, tokens, kv_heads, D), BF16 or FP32
  uint8_t *cache;           // records [batch][kv_heads][capacity]
  const int *starts;        // (batch): place in the cache of the first new token
  const int *positions;     // (batch, tokens): row of the tables, or null for the place in the cache
  const float *cosines;     // (positions, D/2), or null where keys are rotated already
  const float *sines;       // the same
  const float *key_scale;   // (kv_heads, D), kappa, or null
  const float *key_mean;    // (kv_heads, D), of keys times kappa, or null
  const float *value_mean;  // (kv_heads, D), or null
  int batch, tokens, kv_heads, capacity;
  int bf16;         // type of k and v
  int interleaved;  // rotary pairs are neighbours instead of halves
};

namespace {

constexpr uint32_t ALL = 0xFFFFFFFF;

// Integers that grow with the numbers whose bits they are made of: -0 below +0, NaNs beyond the infinities. It is its own inverse.
__device__ __forceinline__ int ordered(int bits) { return bits ^ ((bits >> 31) & 0x7FFFFFFF); }

template <int LANES>
__device__ __forceinline__ int smallest(int v) {
#pragma unroll
  for (int i = 1; i < LANES; i *= 2) v = min(v, __shfl_xor_sync(ALL, v, i));
  return v;
}

template <int LANES>
__device__ __forceinline__ int largest(int v) {
#pragma unroll
  for (int i = 1; i < LANES; i *= 2) v = max(v, __shfl_xor_sync(ALL, v, i));
  return v;
}

// A lane's channels of a group to codes 0..15; the group's parameter is returned: FP16 scale and offset, or an E4M3 byte.
template <int OWN, int LANES, bool AFFINE>
__device__ __forceinline__ uint32_t encode(const float (&x)[OWN], uint32_t (&codes)[OWN]) {
  if constexpr (AFFINE) {
    int low = 0x7FFFFFFF, high = ~0x7FFFFFFF;
#pragma unroll
    for (int i = 0; i < OWN; i++) {
      const int v = ordered(__float_as_int(x[i]));
      low = min(low, v), high = max(high, v);
    }
    const float lo = __int_as_float(ordered(smallest<LANES>(low))), hi = __int_as_float(ordered(largest<LANES>(high)));
    const half offset = __float2half_rn(lo);
    const float step = __half2float(__float2half_rn(__fdiv_rn(__fsub_rn(hi, lo), 15))), from = __half2float(offset);
    const bool finite = step <= 65504 && fabsf(from) <= 65504;
    const float scale = fmaxf(step, 0x1p-14f);
#pragma unroll
    for (int i = 0; i < OWN; i++) codes[i] = finite ? uint32_t(fminf(fmaxf(rintf(__fdiv_rn(__fsub_rn(x[i], from), scale)), 0), 15)) : 0;
    if (!finite) return 0x7E00;
    return __half_as_ushort(__float2half_rn(scale)) | uint32_t(__half_as_ushort(offset)) << 16;
  } else {
    int bits = 0;
#pragma unroll
    for (int i = 0; i < OWN; i++) bits = max(bits, __float_as_int(x[i]) & 0x7FFFFFFF);
    const float top = __int_as_float(largest<LANES>(bits));
    const bool finite = top < INFINITY;
    const uint32_t code = max(ptx::e4m3_of_floats(__fdiv_rn(top, 7), 0) & 0xFF, 1);  // code 1 is 2^-9
    const uint32_t h = ptx::halves_of_e4m3(code);
    const float scale = __low2float(*reinterpret_cast<const half2 *>(&h));
#pragma unroll
    for (int i = 0; i < OWN; i++) codes[i] = finite ? uint32_t(int(fminf(fmaxf(rintf(__fdiv_rn(x[i], scale)), -8), 7)) + 8) : 8;
    return finite ? code : 0x7F;
  }
}

// Codes of channels d .. d+OWN-1, neighbours in one byte or two.
template <int OWN>
__device__ __forceinline__ void store(uint8_t *to, const uint32_t (&codes)[OWN]) {
  if constexpr (OWN == 4)
    *reinterpret_cast<uint16_t *>(to) = codes[0] | codes[1] << 4 | codes[2] << 8 | codes[3] << 12;
  else
    *to = codes[0] | codes[1] << 4;
}

template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void append(const Append &p) {
  using R = kv::Record<D, GROUP, AFFINE>;
  constexpr int OWN = D / 32, LANES = GROUP / OWN;  // channels of a lane, lanes of a group
  ptx::launch_dependents();
  ptx::wait_for_predecessor();
  const int item = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (item >= p.batch * p.tokens * p.kv_heads) return;
  const int head = item % p.kv_heads, row = item / p.kv_heads, sequence = row / p.tokens;
  const int place = p.starts[sequence] + row % p.tokens;
  if (unsigned(place) >= unsigned(p.capacity) * kv::BLOCK) return;
  const int d = lane * OWN;

  float k[OWN], v[OWN];
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    const size_t at = size_t(item) * D + d + i;
    k[i] = p.bf16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(p.k)[at]) : static_cast<const float *>(p.k)[at];
    v[i] = p.bf16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(p.v)[at]) : static_cast<const float *>(p.v)[at];
  }
  if (p.cosines) {
    const size_t table = size_t(p.positions ? p.positions[row] : place) * (D / 2);
    float turned[OWN];
#pragma unroll
    for (int i = 0; i < OWN; i++) {
      const float other = p.interleaved ? k[i ^ 1] : __shfl_xor_sync(ALL, k[i], 16);
      const bool second = p.interleaved ? i % 2 == 1 : lane >= 16;
      const int pair = p.interleaved ? (d + i) / 2 : (d + i) % (D / 2);
      const float straight = __fmul_rn(k[i], p.cosines[table + pair]), across = __fmul_rn(other, p.sines[table + pair]);
      turned[i] = second ? __fadd_rn(straight, across) : __fsub_rn(straight, across);
    }
#pragma unroll
    for (int i = 0; i < OWN; i++) k[i] = turned[i];
  }
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    const int channel = head * D + d + i;
    if (p.key_scale) k[i] = __fmul_rn(k[i], p.key_scale[channel]);
    if (p.key_mean) k[i] = __fsub_rn(k[i], p.key_mean[channel]);
    if (p.value_mean) v[i] = __fsub_rn(v[i], p.value_mean[channel]);
  }

  uint8_t *const record = p.cache + ((size_t(sequence) * p.kv_heads + head) * p.capacity + place / kv::BLOCK) * R::BYTES;
  const int token = place % kv::BLOCK;
  uint32_t codes[OWN];
  const uint32_t key = encode<OWN, LANES, AFFINE>(k, codes);
  store(record + kv::key_byte<D>(token, d), codes);
  const uint32_t value = encode<OWN, LANES, AFFINE>(v, codes);
  store(record + R::VALUES + kv::value_byte<D>(token, d), codes);
  if (lane % LANES == 0) {
    const int i = lane / LANES * kv::BLOCK + token;
    if constexpr (AFFINE) {
      reinterpret_cast<uint32_t *>(record + R::KEY_PARAMETERS)[i] = key;
      reinterpret_cast<uint32_t *>(record + R::VALUE_PARAMETERS)[i] = value;
    } else {
      record[R::KEY_PARAMETERS + i] = key;
      record[R::VALUE_PARAMETERS + i] = value;
    }
  }
}

}  // namespace

#define KVAPPEND(D, GROUP)                                                                                                     \
  extern "C" __global__ void __launch_bounds__(128) kvappend_d##D##_g##GROUP##_affine(const __grid_constant__ Append p) {     \
    append<D, GROUP, true>(p);                                                                                                 \
  }                                                                                                                            \
  extern "C" __global__ void __launch_bounds__(128) kvappend_d##D##_g##GROUP##_symmetric(const __grid_constant__ Append p) {  \
    append<D, GROUP, false>(p);                                                                                                \
  }

KVAPPEND(64, 32)
KVAPPEND(64, 64)
KVAPPEND(128, 32)
KVAPPEND(128, 64)
KVAPPEND(128, 128)
