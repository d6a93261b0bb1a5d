// What a consumer of a prefill attention kernel does: rounds its 64 rows of Q, then for each key tile that the producer has put into a stage of the
// ring
//
//   Q K^T -> maximum, exp2, sums, E4M3 -> P V, a half of D at a time -> O = fade O + part
//
// one after the other; warpgroups fill each other's gaps. Every tile's P V starts from zero and is added to O in FP32 (two-level accumulation,
// section 3.4 of SageAttention2), because the tensor core's own sum keeps 13 bits.
#pragma once
#include "attention.cuh"
#include "attention_codes.cuh"

namespace attention {

// Shared memory from a 1024-byte boundary on.
template <int D, int STAGES, int CONSUMERS>
struct Shared {
  static constexpr int TILE = KEYS * D;
  static constexpr int K = CONSUMERS * ROWS * D, V = K + STAGES * TILE, SHIFT = V + STAGES * TILE;
  static constexpr int K_FULL = SHIFT + 4 * CONSUMERS * ROWS, K_EMPTY = K_FULL + 8 * STAGES;  // barriers
  static constexpr int V_FULL = K_EMPTY + 8 * STAGES, V_EMPTY = V_FULL + 8 * STAGES;
  static constexpr int BYTES = V_EMPTY + 8 * STAGES + 1024;

  // Barriers of the ring. A tile is given by `producers` arrivals and given back by a warp's of every consumer.
  static __device__ __forceinline__ void init(uint32_t base, int producers) {
    for (int i = 0; i < STAGES; i++) {
      ptx::barrier_init(base + K_FULL + 8 * i, producers), ptx::barrier_init(base + V_FULL + 8 * i, producers);
      ptx::barrier_init(base + K_EMPTY + 8 * i, 4 * CONSUMERS), ptx::barrier_init(base + V_EMPTY + 8 * i, 4 * CONSUMERS);
    }
  }
};

// A place in the ring.
template <int STAGES>
struct Turn {
  int stage = 0;
  uint32_t phase = 0;
  __device__ __forceinline__ void next() {
    if (++stage == STAGES) stage = 0, phase ^= 1;
  }
};

// One warpgroup's work on one item. CACHED: keys and values are what an INT4 cache holds, expanded to E4M3; scales of their codes are 1, queries have
// a scale each, and what smooths them is of the model, not of the call. TURNS: queries may be turned by a Hadamard matrix (argument `turned`), as
// their keys have been; kernels without that schedule the loop over tiles better for D = 64 (NOTES.md).
template <int D, Codes CODES, int STAGES, int CONSUMERS, bool SPARSE, bool CACHED, bool TURNS>
struct Consumer {
  using S = Shared<D, STAGES, CONSUMERS>;
  using Item = attention::Item<SPARSE>;
  static constexpr int HALVES = D / 64;

  const Argument &a;
  const uint32_t base;  // of shared memory
  const int group, thread;
  Turn<STAGES> turn;
  Softmax softmax;
  const float *k_scales;  // of this lane's keys in tile 0
  float q_scale[2];       // of rows g and g + 8, times what makes scores of base 2
  float o[HALVES][32], part[32];

  __device__ __forceinline__ uint32_t q() const { return base + group * (ROWS * D); }               // rounded rows of this warpgroup
  __device__ __forceinline__ uint32_t shift() const { return base + S::SHIFT + group * (4 * ROWS); }  // what the mean key adds to their scores

  __device__ __forceinline__ void wait(int full) const { ptx::barrier_wait(base + full + 8 * turn.stage, turn.phase); }
  __device__ __forceinline__ void release(int empty) const {
    if (thread % 32 == 0) ptx::barrier_arrive(base + empty + 8 * turn.stage);
  }

  // Row of what is there once for each KV head.
  __device__ __forceinline__ int per_head(const Item &item) const { return (CACHED ? item.shared - item.sequence * a.kv_heads : item.shared) * D; }

  // Scores of the mean key, of queries as they are: they belong to lse.
  template <int LOADS>
  __device__ __forceinline__ void note_shift(const float (&x)[LOADS][8], const Item &item, int first, int chunk) const {
    constexpr int LANES = D / 8, AT_ONCE = 32 / LANES;
    if (!a.lse || !a.k_mean) return;
    const float *mean = a.k_mean + per_head(item) + 8 * chunk;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      float dot = 0;
#pragma unroll
      for (int j = 0; j < 8; j++) dot = fmaf(x[i][j], mean[j], dot);
#pragma unroll
      for (int d = 1; d < LANES; d *= 2) dot += __shfl_xor_sync(~0u, dot, d);
      if (chunk == 0) ptx::store_shared_f32(shift() + 4 * (first + AT_ONCE * i), dot * a.scale);
    }
  }

  // Rounds 16 rows of Q a warp: D / 8 lanes a row, 8 channels each, so that loads are of whole lines. Rows n and n + 8 of a warp share a scale ("per
  // thread", section 3.2 of the paper), unless CACHED.
  __device__ __forceinline__ void round_q(const Item &item, int head, int row0) {
    constexpr int LANES = D / 8, AT_ONCE = 32 / LANES, LOADS = 16 / AT_ONCE, SCALES = CACHED ? LOADS : LOADS / 2;
    const int lane = thread % 32, chunk = lane % LANES, first = thread / 32 * 16 + lane / LANES;  // load i is of row first + AT_ONCE i
    const __nv_bfloat16 *from = a.q + ((size_t(item.sequence) * a.lq + row0 + first) * a.heads + head) * D + 8 * chunk;
    float x[LOADS][8];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const bool exists = row0 + first + AT_ONCE * i < a.lq;
      const uint4 w = exists ? *reinterpret_cast<const uint4 *>(from + size_t(AT_ONCE * i) * a.heads * D) : make_uint4(0, 0, 0, 0);
      const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; j++) x[i][2 * j] = __uint_as_float(words[j] << 16), x[i][2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000);
    }
    if (CACHED && a.key_scale) {
      const float *kappa = a.key_scale + per_head(item) + 8 * chunk;
#pragma unroll
      for (int i = 0; i < LOADS; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) x[i][j] = __fdiv_rn(x[i][j], kappa[j]);
    }
    if (TURNS) note_shift<LOADS>(x, item, first, chunk);
    if (TURNS && a.turned != 0) {
#pragma unroll
      for (int i = 0; i < LOADS; i++) turn_row<8, LANES>(x[i], chunk, a.turned);
    }
    float scale[SCALES];
#pragma unroll
    for (int i = 0; i < SCALES; i++) {
      float largest = 0;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        largest = fmaxf(largest, fabsf(x[i][j]));
        if (!CACHED) largest = fmaxf(largest, fabsf(x[(i + LOADS / 2) % LOADS][j]));
      }
#pragma unroll
      for (int d = 1; d < LANES; d *= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, d));
      scale[i] = fmaxf(__fdiv_rn(largest, a.limit), SMALLEST);
    }
    const int g = lane / 4;
#pragma unroll
    for (int i = 0; i < LOADS / 2; i++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const float s = __shfl_sync(~0u, scale[CACHED ? i + r * (LOADS / 2) : i], g % AT_ONCE * LANES);
        if (g / AT_ONCE == i) q_scale[r] = s * (a.scale * 1.4426950408889634f);
      }
    if (!TURNS) note_shift<LOADS>(x, item, first, chunk);
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const float s = scale[i % SCALES], inverse = __fdiv_rn(1, s);
      uint32_t w[2];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const float *y = x[i] + 4 * j;
        if (CACHED) {
          w[j] = pack_e4m3(__fdiv_rn(y[0], s), __fdiv_rn(y[1], s), __fdiv_rn(y[2], s), __fdiv_rn(y[3], s));
        } else {
          w[j] = Scores<CODES>::pack(y[0] * inverse, y[1] * inverse, y[2] * inverse, y[3] * inverse);
        }
      }
      ptx::store_shared_64(q() + chunk_at<D>(first + AT_ONCE * i, chunk / 2) + 8 * (chunk % 2), w[0], w[1]);
    }
    ptx::fence_proxy_async();
    ptx::named_sync(1 + group, 128);
  }

  // -inf for what rows g and g + 8 must not see of a tile that holds such keys.
  __device__ __forceinline__ void hide(float (&x)[64], int begin, int row0) const {
    const int lane = thread % 32, t = lane % 4, offset = a.lk - a.lq;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = row0 + thread / 32 * 16 + lane / 4 + 8 * r;
      const int last = (a.causal ? min(a.lk - 1, row + offset) : a.lk - 1) - begin - 2 * t;
      const int first = (a.window > 0 ? row + offset - a.window + 1 : 0) - begin - 2 * t;
#pragma unroll
      for (int b = 0; b < 16; b++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          if (8 * b + e > last || 8 * b + e < first) x[4 * b + 2 * r + e] = __int_as_float(0xFF800000);
    }
  }

  // Scores of a tile, as probabilities.
  __device__ __forceinline__ void scores(int tile, int row0, uint32_t (&p)[4][4]) {
    Scores<CODES> s;
    float x[64];
    const float k_scale = CACHED ? 1 : k_scales[4 * tile];  // early: it takes as long as the products
    wait(S::K_FULL);
    ptx::pin(s.s);
    ptx::wgmma_fence();
    const uint64_t left = descriptor<D>(q()), right = descriptor<D>(base + S::K + turn.stage * S::TILE);
#pragma unroll
    for (int i = 0; i < D / 32; i++) s.issue(left + 2 * i, right + 2 * i, i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(s.s);
    release(S::K_EMPTY);
    s.products(x);
    softmax.factor[0] = fmaxf(q_scale[0] * k_scale, SMALLEST), softmax.factor[1] = fmaxf(q_scale[1] * k_scale, SMALLEST);
    const int begin = tile * KEYS, offset = a.lk - a.lq;
    const bool all = begin + KEYS <= a.lk && (!a.causal || begin + KEYS - 1 <= row0 + offset) &&
                     (a.window <= 0 || begin > row0 + ROWS - 1 + offset - a.window);
    if (!all) hide(x, begin, row0);
    softmax.raise(x);
    softmax.probabilities(x, p);
  }

  template <int HALF>
  __device__ __forceinline__ void output(const uint32_t (&p)[4][4]) {
    ptx::pin(part);
    ptx::wgmma_fence();
    const uint64_t right = ptx::wgmma_descriptor(base + S::V + turn.stage * S::TILE + HALF * 64 * KEYS);
#pragma unroll
    for (int i = 0; i < 4; i++) ptx::Wgmma<64>::issue(part, p[i], right + 2 * i, i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(part);
    if (HALF == HALVES - 1) release(S::V_EMPTY);
#pragma unroll
    for (int i = 0; i < 32; i++) o[HALF][i] = fmaf(o[HALF][i], softmax.fade[i / 2 % 2], part[i]);
  }

  __device__ __forceinline__ void run(Item &item, int row0) {
    softmax = Softmax();
    if (!CACHED) k_scales = a.k_scale + size_t(item.shared) * a.tiles * 4 + thread % 4;
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
      for (int i = 0; i < 32; i++) o[h][i] = 0;
#pragma unroll 1
    for (; item.more(); item.next(a)) {
      if (item.wants(a, item.unit + group)) {
        uint32_t p[4][4];
        scores(item.tile, row0, p);
        wait(S::V_FULL);
        output<0>(p);
        if constexpr (HALVES == 2) output<HALVES - 1>(p);
      } else {
        // Not before it is there: a warpgroup a whole ring ahead would give the same stage back twice in one phase.
        wait(S::K_FULL), release(S::K_EMPTY);
        wait(S::V_FULL), release(S::V_EMPTY);
      }
      turn.next();
    }
  }

  // Everything.
  __device__ __forceinline__ void work() {
    const int items = Item::count(a, CONSUMERS);
    for (int i = blockIdx.x; i < items; i += gridDim.x) {
      Item item(a, i, CONSUMERS);
      const int unit = item.unit + group, head = item.head(a, unit), row0 = item.row(a, unit);
      round_q(item, head, row0);
      run(item, row0);
      store(item, head, row0);
    }
  }

  // O / sum, times the scales of V, half of the channels at a time through the rows that Q had, so that stores are of whole lines.
  __device__ __forceinline__ void store(const Item &item, int head, int row0) const {
    constexpr int CHUNKS = D / 16, AT_ONCE = 32 / CHUNKS;  // blocks of 8 channels of a half; rows a store
    const int lane = thread % 32, first = thread / 32 * 16, t = lane % 4;
    const size_t token = size_t(item.sequence) * a.lq + row0;  // of row 0
    float inverse[2];
    bool any[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = first + lane / 4 + 8 * r;
      const float total = quad_sum(softmax.sum[r]);
      any[r] = total > 0, inverse[r] = any[r] ? __fdiv_rn(1, total) : 0;
      if (a.lse && t == 0 && row0 + row < a.lq) {
        const float shifted = a.k_mean ? ptx::load_shared_f32(shift() + 4 * row) : 0;
        a.lse[(token + row) * a.heads + head] =
            any[r] ? (log2f(total) + (softmax.top[r] - LOG2_448)) * 0.6931471805599453f + shifted : __int_as_float(0xFF800000);
      }
    }
    const float *scales = a.v_scale + item.shared * D + 2 * t, *means = a.v_mean ? a.v_mean + per_head(item) + 2 * t : nullptr;
    ptx::named_sync(1 + group, 128);  // all products of Q have been formed
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
      for (int c = 0; c < CHUNKS; c += 2) {
        uint32_t pairs[4];  // rows g and g + 8 of a block, then of the next
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int block = half * CHUNKS + c + i / 2, r = i % 2;
          const float *x = o[block / 8] + block % 8 * 4 + 2 * r;
          const float2 scale = CACHED ? make_float2(1, 1) : *reinterpret_cast<const float2 *>(scales + 8 * block);
          float low = x[0] * inverse[r] * scale.x, high = x[1] * inverse[r] * scale.y;
          if (means && any[r]) low += means[8 * block], high += means[8 * block + 1];
          pairs[i] = ptx::bf16_of_floats(low, high);
        }
        ptx::store_matrices(q() + chunk_at<D>(first + lane % 16, c + lane / 16), pairs[0], pairs[1], pairs[2], pairs[3]);
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < 16; i += AT_ONCE) {
        const int row = first + i + lane / CHUNKS, chunk = lane % CHUNKS;
        const uint4 line = ptx::load_shared_128(q() + chunk_at<D>(row, chunk));
        if (row0 + row < a.lq) *reinterpret_cast<uint4 *>(a.o + ((token + row) * a.heads + head) * D + half * (D / 2) + 8 * chunk) = line;
      }
      __syncwarp();
    }
  }
};

}  // namespace attention
