// K6: attention of one query token a sequence over an INT4 cache (kvlayout.go draws the records).
//
//   z_j = c (q/kappa . k_j)     k_j[d] = scale_jg u_jd + offset_jg     (symmetric codes are u - 8: offset = -8 scale)
//       = c sum_g (scale_jg (q_g . u_jg) + offset_jg sum(q_g))
//   O   = sum_j p_j v_j / l     v_j[d] = scale'_jg u'_jd + offset'_jg
//       = (sum_j (p_j scale'_jg) u'_jd + sum_j p_j offset'_jg) / l     (+ value mean)
//   LSE = ln sum_j exp(z_j)     (+ c q/kappa . key mean, which softmax does not see)
//
// so that the tensor cores meet bare codes. A code u in the low bits of a half is the subnormal u 2^-24, which they multiply exactly: two
// masks and half a shift widen four codes. The code one nibble up counts 16 times: its query channel (keys) or its output row (values) is
// divided by 16. The m16n8k16 operands are
//
//   keys     A (16 tokens, 16 channels)       B (16 channels, 8 queries)      C: scores, a thread has tokens g, g+8 of queries 2t, 2t+1
//   values   A (16 channels, 16 tokens)       B (16 tokens, 8 queries)        C: outputs, transposed, of the same queries
//
// with the queries of one KV head (GQA, at most 8) as columns; movmatrix turns scores into the second B. Queries are rounded to FP16 after
// a power of two brings each head's largest to [2^14, 2^15): BF16 and E4M3 queries are not changed by it (kernels/ref KVQuery is the twin).
//
// A warp works alone: it owns every fourth record of the block's share and a ring of stages that its own bulk copies fill; O, m and l are in
// its registers. At the end four warps are added in order; where a sequence is divided among blocks, the last one to arrive adds their parts
// in order, so that the bits do not depend on who was last.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kvattend.cuh"
#include "ptx.cuh"

struct Decode {
  const void *q;            // (batch, kv_heads * queries, D), BF16 or FP32
  const uint8_t *cache;     // records [batch][kv_heads][capacity]
  const int *lengths;       // (batch): tokens in the cache
  const float *key_scale;   // (kv_heads, D), kappa, or null
  const float *key_mean;    // (kv_heads, D), of keys times kappa, or null
  const float *value_mean;  // (kv_heads, D), or null
  void *out;                // (batch, kv_heads * queries, D), BF16 or FP32
  float *lse;               // (batch, kv_heads * queries), natural logarithm
  float *partial;           // O [pair][split][queries][D], then (m, l) [pair][split][queries][2]; pair = (sequence, KV head)
  unsigned *tickets;        // [pair], zero between launches
  float scale;              // of scores, 1/sqrt(D)
  int kv_heads, queries;    // queries: of a KV head, 1..8
  int capacity;             // records of a pair
  int chunk;                // records of a split
  int stages;               // of a warp's ring
  int q_bf16, out_bf16, fp8_queries;
};

namespace {

constexpr int WARPS = 4;
constexpr int MAX_STAGES = 8;
constexpr int MAX_SPLITS = 128;

template <int D, int GROUPS>
struct Queries {
  half value[8][D];         // q/kappa, rounded, times a power of two; zero beyond the queries
  float sum[8][GROUPS];     // of a group's values, times 2^-24 as the products have it
  float factor[8];          // scale · log2(e) over that power, times 2^24
  float correction[8];      // scale · q/kappa . key mean
};

// One warp makes one query of the pair.
template <int D, int GROUPS>
__device__ __forceinline__ void prepare(const Decode &p, int pair, int query, Queries<D, GROUPS> &to) {
  constexpr int OWN = D / 32, LANES = 32 / GROUPS;  // channels of a lane, lanes of a group
  const int lane = threadIdx.x % 32, head = pair % p.kv_heads;
  float v[OWN], top = 0;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    const int d = lane * OWN + i;
    const size_t at = (size_t(pair) * p.queries + query) * D + d;
    v[i] = 0;
    if (query < p.queries) v[i] = p.q_bf16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(p.q)[at]) : static_cast<const float *>(p.q)[at];
    if (p.key_scale) v[i] /= p.key_scale[head * D + d];
    top = fmaxf(top, fabsf(v[i]));
  }
#pragma unroll
  for (int i = 16; i > 0; i /= 2) top = fmaxf(top, __shfl_xor_sync(kv::ALL, top, i));
  float step = 1;
  if (p.fp8_queries) {
    step = fmaxf(top / 448, 0x1p-126f);
#pragma unroll
    for (int i = 0; i < OWN; i++) {
      const uint32_t h = ptx::halves_of_e4m3(ptx::e4m3_of_floats(v[i] / step, 0));
      v[i] = __low2float(*reinterpret_cast<const half2 *>(&h));
    }
    top /= step;  // at most 2^9, whatever it rounds to
  }
  const int exponent = max(int(__float_as_uint(top) >> 23), 14) - 127;
  const float up = kv::power_of_two(14 - exponent), down = exponent < -112 ? 0 : kv::power_of_two(exponent - 14);
  float sum = 0, mean = 0;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    const int d = lane * OWN + i;
    const half h = __float2half_rn(v[i] * up);
    to.value[query][d] = h;
    sum += __half2float(h);
    if (p.key_mean) mean += __half2float(h) * p.key_mean[head * D + d];
  }
#pragma unroll
  for (int i = 1; i < LANES; i *= 2) sum += __shfl_xor_sync(kv::ALL, sum, i);
#pragma unroll
  for (int i = 16; i > 0; i /= 2) mean += __shfl_xor_sync(kv::ALL, mean, i);
  if (lane % LANES == 0) to.sum[query][lane / LANES] = sum * 0x1p-24f;
  if (lane == 0) {
    to.factor[query] = p.scale * 1.44269504f * (down * 0x1p24f) * step;
    to.correction[query] = p.scale * (mean * down) * step;
  }
}

// Writes a warp's part for merge: outputs [8][D] and (m, l) [8][2].
template <int D, int GROUP>
__device__ __forceinline__ void put(kv::Partial<D, D / GROUP> &a, float *outputs, float *stats) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const float unit = kv::power_of_two(a.exponent + 10);
#pragma unroll
  for (int i = 0; i < 2; i++) {
#pragma unroll
    for (int shift = 4; shift < 32; shift *= 2) {
      a.l[i] += __shfl_xor_sync(kv::ALL, a.l[i], shift);
#pragma unroll
      for (int k = 0; k < D / GROUP; k++) a.offset[k][i] += __shfl_xor_sync(kv::ALL, a.offset[k][i], shift);
    }
#pragma unroll
    for (int j = 0; j < D / 16; j++) {
      const float offset = a.offset[j * 16 / GROUP][i];
      *reinterpret_cast<float2 *>(outputs + (2 * t + i) * D + j / 2 * 32 + 4 * g + j % 2 * 2) =
          make_float2(a.o[j][i] * unit + offset, a.o[j][2 + i] * (unit / 16) + offset);
    }
    if (g == 0) stats[2 * (2 * t + i)] = a.m[i], stats[2 * (2 * t + i) + 1] = a.l[i];
  }
}

// Adds `parts` partial results, in order: O of four channels, and m and l. Strides are in floats.
template <typename Load>
__device__ __forceinline__ float4 merge(int parts, const float *stats, int stats_stride, Load load, float &m, float &l) {
  m = -INFINITY, l = 0;
  for (int i = 0; i < parts; i++) m = fmaxf(m, stats[i * stats_stride]);
  const float base = m == -INFINITY ? 0 : m;
  float4 o = make_float4(0, 0, 0, 0);
#pragma unroll 4
  for (int i = 0; i < parts; i++) {
    const float weight = ptx::exp2_approx(stats[i * stats_stride] - base);
    const float4 part = load(i);
    l += weight * stats[i * stats_stride + 1];
    o.x += weight * part.x, o.y += weight * part.y, o.z += weight * part.z, o.w += weight * part.w;
  }
  return o;
}

// Divides and stores four channels of a query.
template <int D>
__device__ __forceinline__ void finish(const Decode &p, int pair, int query, int d, float4 o, float m, float l, float correction) {
  const size_t row = size_t(pair) * p.queries + query;
  float v[4] = {o.x, o.y, o.z, o.w};
  const bool empty = l == 0;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    v[i] = empty ? 0 : v[i] / l;
    if (p.value_mean && !empty) v[i] += p.value_mean[pair % p.kv_heads * D + d + i];
  }
  if (p.out_bf16)
    *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(p.out) + row * D + d) =
        make_uint2(ptx::bf16_of_floats(v[0], v[1]), ptx::bf16_of_floats(v[2], v[3]));
  else
    *reinterpret_cast<float4 *>(static_cast<float *>(p.out) + row * D + d) = make_float4(v[0], v[1], v[2], v[3]);
  if (d == 0) p.lse[row] = empty ? -INFINITY : (m + log2f(l)) * 0.693147181f + correction;
}

// Grid: (pairs, splits).
template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void decode(const Decode &p) {
  using R = kv::Record<D, GROUP, AFFINE>;
  constexpr int WORDS = D / 32, GROUPS = D / GROUP, QUADS = D / 4;
  extern __shared__ __align__(128) uint8_t rings[];  // [warp][stage][record], later the warps' parts
  __shared__ __align__(8) uint64_t barriers[WARPS][MAX_STAGES];
  __shared__ Queries<D, GROUPS> queries;
  __shared__ bool last_arriver;
  const int warp = __shfl_sync(kv::ALL, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
  const int pair = blockIdx.x, split = blockIdx.y;

  if (lane == 0) {
    for (int i = 0; i < p.stages; i++) ptx::barrier_init(ptx::shared_address(&barriers[warp][i]), 1);
    ptx::fence_barrier_init();
  }
  __syncwarp();
  ptx::launch_dependents();
  ptx::wait_for_predecessor();
  const int length = p.lengths[pair / p.kv_heads];
  const int records = (length + kv::BLOCK - 1) / kv::BLOCK;
  const int splits = max(1, (records + p.chunk - 1) / p.chunk);
  if (split >= splits) return;
  const int first = split * p.chunk + warp, end = min(records, (split + 1) * p.chunk);
  const int count = first < end ? (end - first + WARPS - 1) / WARPS : 0;

  uint8_t *const ring = rings + warp * p.stages * R::BYTES;
  const uint8_t *const from = p.cache + (size_t(pair) * p.capacity + first) * R::BYTES;
  const uint64_t policy = ptx::policy_evict_first();
  const auto request = [&](int n, int stage) {
    const uint32_t bar = ptx::shared_address(&barriers[warp][stage]);
    ptx::barrier_expect(bar, R::BYTES);
    ptx::copy(ptx::shared_address(ring + stage * R::BYTES), from + size_t(n) * WARPS * R::BYTES, R::BYTES, bar, policy);
  };
  for (int n = 0; n < min(count, p.stages); n++)
    if (ptx::elect()) request(n, n);

  for (int query = warp; query < 8; query += WARPS) prepare<D, GROUPS>(p, pair, query, queries);
  __syncthreads();
  uint32_t q[WORDS][4];  // [32 channels][channels 8t + i, 8t + i + 4] of query g
  float sum[GROUPS][2], factor[2];
#pragma unroll
  for (int j = 0; j < WORDS; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const half *at = &queries.value[lane / 4][32 * j + lane % 4 * 8 + i];
      half2 two = __halves2half2(at[0], at[4]);
      if (i % 2 == 1) two = __hmul2(two, __float2half2_rn(1.f / 16));
      q[j][i] = *reinterpret_cast<const uint32_t *>(&two);
    }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    factor[i] = queries.factor[lane % 4 * 2 + i];
#pragma unroll
    for (int k = 0; k < GROUPS; k++) sum[k][i] = queries.sum[lane % 4 * 2 + i][k];
  }

  kv::Partial<D, GROUPS> a = {};
  a.m[0] = a.m[1] = -INFINITY;
  a.exponent = -14;  // the smallest scale of affine groups
  int stage = 0, parity = 0;
#pragma unroll 1
  for (int n = 0; n < count; n++) {
    ptx::barrier_wait(ptx::shared_address(&barriers[warp][stage]), parity);
    kv::attend<D, GROUP, AFFINE>(ring + stage * R::BYTES, length - (first + n * WARPS) * kv::BLOCK, q, sum, factor, a);
    __syncwarp();  // every lane has read the stage
    if (n + p.stages < count && ptx::elect()) request(n + p.stages, stage);
    if (++stage == p.stages) stage = 0, parity ^= 1;
  }

  static_assert(MAX_SPLITS * 8 * 2 <= WARPS * 8 * D, "(m, l) of all splits lie where the outputs of the warps lay");
  float *const outputs = reinterpret_cast<float *>(rings);  // [warp][8][D]
  float *const stats = outputs + WARPS * 8 * D;             // [warp][8][2]
  __syncthreads();                                          // every ring is read
  put<D, GROUP>(a, outputs + warp * 8 * D, stats + warp * 16);
  __syncthreads();
  float *const partial = p.partial + (size_t(pair) * gridDim.y + split) * p.queries * D;
  float *const pair_stats = p.partial + (size_t(gridDim.x) * D + size_t(pair) * 2) * gridDim.y * p.queries;
  for (int i = threadIdx.x; i < p.queries * QUADS; i += blockDim.x) {
    const int query = i / QUADS, d = i % QUADS * 4;
    float m, l;
    const auto load = [&](int w) { return *reinterpret_cast<const float4 *>(outputs + (w * 8 + query) * D + d); };
    const float4 o = merge(WARPS, stats + 2 * query, 16, load, m, l);
    if (splits == 1) {
      finish<D>(p, pair, query, d, o, m, l, queries.correction[query]);
    } else {
      __stcg(reinterpret_cast<float4 *>(partial + query * D + d), o);
      if (d == 0) __stcg(reinterpret_cast<float2 *>(pair_stats + (split * p.queries + query) * 2), make_float2(m, l));
    }
  }
  if (splits == 1) return;

  __threadfence();  // this thread's part is visible before the ticket is
  __syncthreads();
  if (threadIdx.x == 0) {
    last_arriver = atomicAdd(p.tickets + pair, 1) == splits - 1;
    if (last_arriver) p.tickets[pair] = 0;
    __threadfence();
  }
  __syncthreads();
  if (!last_arriver) return;
  for (int i = threadIdx.x; i < splits * p.queries * 2; i += blockDim.x) outputs[i] = __ldcg(pair_stats + i);
  __syncthreads();
  const float *const parts = p.partial + size_t(pair) * gridDim.y * p.queries * D;
  for (int i = threadIdx.x; i < p.queries * QUADS; i += blockDim.x) {
    const int query = i / QUADS, d = i % QUADS * 4;
    float m, l;
    const auto load = [&](int w) { return __ldcg(reinterpret_cast<const float4 *>(parts + (w * p.queries + query) * D + d)); };
    const float4 o = merge(splits, outputs + 2 * query, 2 * p.queries, load, m, l);
    finish<D>(p, pair, query, d, o, m, l, queries.correction[query]);
  }
}

}  // namespace

#define KVDECODE(D, GROUP)                                                                                        \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) kvdecode_d##D##_g##GROUP##_affine(const __grid_constant__ Decode p) {    \
    decode<D, GROUP, true>(p);                                                                                    \
  }                                                                                                               \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) kvdecode_d##D##_g##GROUP##_symmetric(const __grid_constant__ Decode p) { \
    decode<D, GROUP, false>(p);                                                                                   \
  }

KVDECODE(64, 32)
KVDECODE(64, 64)
KVDECODE(128, 32)
KVDECODE(128, 64)
KVDECODE(128, 128)
