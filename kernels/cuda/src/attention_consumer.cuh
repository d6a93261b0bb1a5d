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
// a scale each, and what smooths them is of the model, not of the call.
template <int D, Codes CODES, int STAGES, int CONSUMERS, bool SPARSE, bool CACHED>
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
  __device__ __forceinline__ int per_head(const Item &item) const { return (CACHED ? item.shared % a.kv_heads : item.shared) * D; }

  // This thread's half of a row of Q.
  __device__ __forceinline__ const __nv_bfloat16 *queries(const Item &item, int head, int row0) const {
    return a.q + ((size_t(item.sequence) * a.lq + row0 + thread / 2) * a.heads + head) * D + thread % 2 * (D / 2);
  }

  // Starts Q of a later item on its way to L2.
  __device__ __forceinline__ void announce(int index) const {
    const Item item(a, index, CONSUMERS);
    const int unit = item.unit + group, row0 = item.row(a, unit);
    if (row0 + thread / 2 < a.lq) ptx::prefetch(queries(item, item.head(a, unit), row0));
  }

  // Rounds rows of Q, two threads a row. Rows n and n + 8 of a warp share a scale ("per thread", section 3.2 of the paper), unless CACHED.
  __device__ __forceinline__ void round_q(const Item &item, int head, int row0) {
    const int row = thread / 2, half = thread % 2, index = row0 + row;
    float x[D / 2];
    const uint4 *from = reinterpret_cast<const uint4 *>(queries(item, head, row0));
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
      const uint4 w = index < a.lq ? from[i] : make_uint4(0, 0, 0, 0);
      const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; j++) x[8 * i + 2 * j] = __uint_as_float(words[j] << 16), x[8 * i + 2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000);
    }
    if (CACHED && a.key_scale) {
      const float *kappa = a.key_scale + per_head(item) + half * (D / 2);
#pragma unroll
      for (int i = 0; i < D / 2; i++) x[i] = __fdiv_rn(x[i], kappa[i]);
    }
    float largest = 0;
#pragma unroll
    for (int i = 0; i < D / 2; i++) largest = fmaxf(largest, fabsf(x[i]));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    if (!CACHED) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 16));
    const float scale = fmaxf(__fdiv_rn(largest, a.limit), SMALLEST), inverse = __fdiv_rn(1, scale);
    const int lane = thread % 32;
#pragma unroll
    for (int r = 0; r < 2; r++) q_scale[r] = __shfl_sync(~0u, scale, lane / 4 * 2 + 16 * r) * (a.scale * 1.4426950408889634f);
    if (a.lse && a.k_mean) {
      const float *mean = a.k_mean + per_head(item) + half * (D / 2);
      float dot = 0;
#pragma unroll
      for (int i = 0; i < D / 2; i++) dot = fmaf(x[i], mean[i], dot);
      dot += __shfl_xor_sync(~0u, dot, 1);
      if (half == 0) ptx::store_shared_f32(shift() + 4 * row, dot * a.scale);
    }
    ptx::named_sync(1 + group, 128);  // the last item's products have been formed
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
      uint32_t w[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float *y = x + 16 * c + 4 * j;
        if (CACHED) {
          w[j] = pack_e4m3(__fdiv_rn(y[0], scale), __fdiv_rn(y[1], scale), __fdiv_rn(y[2], scale), __fdiv_rn(y[3], scale));
        } else {
          w[j] = Scores<CODES>::pack(y[0] * inverse, y[1] * inverse, y[2] * inverse, y[3] * inverse);
        }
      }
      ptx::store_shared_128(q() + chunk_at<D>(row, half * (D / 32) + c), w[0], w[1], w[2], w[3]);
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
      if (i + gridDim.x < items) announce(i + gridDim.x);
      run(item, row0);
      store(item, head, row0);
    }
  }

  // O / sum, times the scales of V. Four lanes exchange what they hold, so that each stores 16 bytes.
  __device__ __forceinline__ void store(const Item &item, int head, int row0) const {
    const int lane = thread % 32, t = lane % 4;
    const float *scales = a.v_scale + item.shared * D, *means = a.v_mean ? a.v_mean + per_head(item) : nullptr;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = thread / 32 * 16 + lane / 4 + 8 * r;
      const size_t index = (size_t(item.sequence) * a.lq + row0 + row) * a.heads + head;
      const bool exists = row0 + row < a.lq;
      const float total = quad_sum(softmax.sum[r]), inverse = total > 0 ? __fdiv_rn(1, total) : 0;
      if (a.lse && t == 0 && exists) {
        const float shifted = a.k_mean ? ptx::load_shared_f32(shift() + 4 * row) : 0;
        a.lse[index] = total > 0 ? (log2f(total) + (softmax.top[r] - LOG2_448)) * 0.6931471805599453f + shifted : __int_as_float(0xFF800000);
      }
#pragma unroll
      for (int h = 0; h < HALVES; h++)
#pragma unroll
        for (int c = 0; c < 2; c++) {  // 32 channels: four blocks of eight, one a lane at the end
          uint32_t pair[4], mine[4];
#pragma unroll
          for (int b = 0; b < 4; b++) {
            const int channel = 64 * h + 32 * c + 8 * b + 2 * t, at = 16 * c + 4 * b + 2 * r;
            const float2 scale = CACHED ? make_float2(1, 1) : *reinterpret_cast<const float2 *>(scales + channel);
            float low = o[h][at] * inverse * scale.x, high = o[h][at + 1] * inverse * scale.y;
            if (means && total > 0) low += means[channel], high += means[channel + 1];
            pair[b] = ptx::bf16_of_floats(low, high);
          }
#pragma unroll
          for (int d = 0; d < 4; d++) {  // with lane t ^ d: its block for mine
            const int peer = t ^ d;
            const uint32_t got = __shfl_xor_sync(~0u, peer == 0 ? pair[0] : peer == 1 ? pair[1] : peer == 2 ? pair[2] : pair[3], d);
#pragma unroll
            for (int i = 0; i < 4; i++)
              if (i == peer) mine[i] = got;
          }
          if (exists) *reinterpret_cast<uint4 *>(a.o + index * D + 64 * h + 32 * c + 8 * t) = make_uint4(mine[0], mine[1], mine[2], mine[3]);
        }
    }
  }
};

}  // namespace attention
