// Prefill attention, 8-bit: softmax(Q K^T) V with INT8 or E4M3 products for the scores and E4M3 ones for the output (SageAttention2, arXiv
// 2411.10958; warp roles of FlashAttention-3, arXiv 2407.08608).
//
// A block is a producer warp and three warpgroups of 64 query rows. It goes over items (attention.cuh): each warpgroup rounds its rows of Q, then
// walks over the key tiles that the producer streams through a ring of stages. A warpgroup does one thing after the other,
//
//   Q K^T -> maximum, exp2, sums, E4M3 -> P V, a half of D at a time -> O = fade O + part
//
// and the three fill each other's gaps: two are in the softmax while one has the tensor core. Every tile's P V starts from zero and is added to O
// in FP32 (two-level accumulation, section 3.4 of the paper), because the tensor core's own sum keeps 13 bits.
#include "attention.cuh"
#include "attention_codes.cuh"

namespace attention {

constexpr int CONSUMERS = 3;  // warpgroups

// Shared memory from a 1024-byte boundary on.
template <int D, int STAGES>
struct Shared {
  static constexpr int TILE = KEYS * D;
  static constexpr int K = CONSUMERS * ROWS * D, V = K + STAGES * TILE, SHIFT = V + STAGES * TILE;
  static constexpr int BARRIERS = SHIFT + 4 * CONSUMERS * ROWS;
  static constexpr int BYTES = BARRIERS + 4 * STAGES * 8 + 1024;
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

// One warpgroup's work on one item.
template <int D, Codes CODES, int STAGES>
struct Consumer {
  static constexpr int HALVES = D / 64, TILE = KEYS * D;

  const Argument &a;
  const uint32_t q, k, v, shift;                    // addresses in shared memory; q and shift are this warpgroup's
  const uint32_t k_full, k_empty, v_full, v_empty;  // barriers of stage 0
  const int group, thread;
  Turn<STAGES> turn;
  Softmax softmax;
  const float *k_scales;  // of this lane's keys in tile 0
  float q_scale[2];       // of rows g and g + 8, times what makes scores of base 2
  float o[HALVES][32], part[32];

  __device__ __forceinline__ void release(uint32_t empty) const {
    if (thread % 32 == 0) ptx::barrier_arrive(empty + 8 * turn.stage);
  }

  // Rounds rows of Q, two threads a row. Rows n and n + 8 of a warp share a scale ("per thread", section 3.2 of the paper).
  __device__ __forceinline__ void round_q(const Item &item, int row0) {
    const int row = thread / 2, half = thread % 2, index = row0 + row;
    float x[D / 2];
    const uint4 *from = reinterpret_cast<const uint4 *>(a.q + (size_t(item.sequence) * a.lq + index) * a.heads * D + item.head * D + half * (D / 2));
#pragma unroll
    for (int i = 0; i < D / 16; i++) {
      const uint4 w = index < a.lq ? from[i] : make_uint4(0, 0, 0, 0);
      const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
      for (int j = 0; j < 4; j++) x[8 * i + 2 * j] = __uint_as_float(words[j] << 16), x[8 * i + 2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000);
    }
    float largest = 0;
#pragma unroll
    for (int i = 0; i < D / 2; i++) largest = fmaxf(largest, fabsf(x[i]));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 16));
    const float scale = fmaxf(__fdiv_rn(largest, a.limit), SMALLEST), inverse = __fdiv_rn(1, scale);
    const int lane = thread % 32;
    q_scale[0] = q_scale[1] = __shfl_sync(~0u, scale, lane / 4 * 2) * (a.scale * 1.4426950408889634f);
    if (a.lse && a.k_mean) {
      const float *mean = a.k_mean + item.shared * D + half * (D / 2);
      float dot = 0;
#pragma unroll
      for (int i = 0; i < D / 2; i++) dot = fmaf(x[i], mean[i], dot);
      dot += __shfl_xor_sync(~0u, dot, 1);
      if (half == 0) ptx::store_shared_f32(shift + 4 * row, dot * a.scale);
    }
    ptx::named_sync(1 + group, 128);  // the last item's products have been formed
#pragma unroll
    for (int c = 0; c < D / 32; c++) {
      uint32_t w[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const float *y = x + 16 * c + 4 * j;
        w[j] = Scores<CODES>::pack(y[0] * inverse, y[1] * inverse, y[2] * inverse, y[3] * inverse);
      }
      ptx::store_shared_128(q + chunk_at<D>(row, half * (D / 32) + c), w[0], w[1], w[2], w[3]);
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
    const float k_scale = k_scales[4 * tile];  // early: it takes as long as the products
    ptx::barrier_wait(k_full + 8 * turn.stage, turn.phase);
    ptx::pin(s.s);
    ptx::wgmma_fence();
    const uint64_t left = descriptor<D>(q), right = descriptor<D>(k + turn.stage * TILE);
#pragma unroll
    for (int i = 0; i < D / 32; i++) s.issue(left + 2 * i, right + 2 * i, i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(s.s);
    release(k_empty);
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
    const uint64_t right = ptx::wgmma_descriptor(v + turn.stage * TILE + HALF * 64 * KEYS);
#pragma unroll
    for (int i = 0; i < 4; i++) ptx::Wgmma<64>::issue(part, p[i], right + 2 * i, i > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin(part);
    if (HALF == HALVES - 1) release(v_empty);
#pragma unroll
    for (int i = 0; i < 32; i++) o[HALF][i] = fmaf(o[HALF][i], softmax.fade[i / 2 % 2], part[i]);
  }

  __device__ __forceinline__ void run(Item &item, int row0) {
    softmax = Softmax();
    k_scales = a.k_scale + size_t(item.shared) * a.tiles * 4 + thread % 4;
#pragma unroll
    for (int h = 0; h < HALVES; h++)
#pragma unroll
      for (int i = 0; i < 32; i++) o[h][i] = 0;
#pragma unroll 1
    for (; item.more(); item.next(a)) {
      if (item.wants(a, group)) {
        uint32_t p[4][4];
        scores(item.tile, row0, p);
        ptx::barrier_wait(v_full + 8 * turn.stage, turn.phase);
        output<0>(p);
        if constexpr (HALVES == 2) output<HALVES - 1>(p);
      } else {
        release(k_empty), release(v_empty);
      }
      turn.next();
    }
  }

  // O / sum, times the scales of V. Four lanes exchange what they hold, so that each stores 16 bytes.
  __device__ __forceinline__ void store(const Item &item, int row0) const {
    const int lane = thread % 32, t = lane % 4;
    const float *scales = a.v_scale + item.shared * D, *means = a.v_mean ? a.v_mean + item.shared * D : nullptr;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = thread / 32 * 16 + lane / 4 + 8 * r;
      const size_t index = (size_t(item.sequence) * a.lq + row0 + row) * a.heads + item.head;
      const bool exists = row0 + row < a.lq;
      const float total = quad_sum(softmax.sum[r]), inverse = total > 0 ? __fdiv_rn(1, total) : 0;
      if (a.lse && t == 0 && exists) {
        const float shifted = a.k_mean ? ptx::load_shared_f32(shift + 4 * row) : 0;
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
            const float2 scale = *reinterpret_cast<const float2 *>(scales + channel);
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

// The producer's warp: K and V of every tile of every item, in the order in which the consumers take them.
template <int D, int STAGES>
__device__ __forceinline__ void produce(const Argument &a, uint32_t k, uint32_t v, uint32_t k_full, uint32_t k_empty, uint32_t v_full, uint32_t v_empty) {
  constexpr int TILE = KEYS * D;
  const uint64_t policy = ptx::policy_evict_last();
  const int items = Item::count(a, CONSUMERS);
  Turn<STAGES> turn;
  for (int i = blockIdx.x; i < items; i += gridDim.x) {
    Item item(a, i, CONSUMERS);
    for (; item.more(); item.next(a), turn.next()) {
      const size_t at = (size_t(item.shared) * a.tiles + item.tile) * TILE;
      ptx::barrier_wait(k_empty + 8 * turn.stage, turn.phase ^ 1);
      if (ptx::elect()) {
        ptx::barrier_expect(k_full + 8 * turn.stage, TILE);
        ptx::copy(k + turn.stage * TILE, a.k + at, TILE, k_full + 8 * turn.stage, policy);
      }
      __syncwarp();
      ptx::barrier_wait(v_empty + 8 * turn.stage, turn.phase ^ 1);
      if (ptx::elect()) {
        ptx::barrier_expect(v_full + 8 * turn.stage, TILE);
        ptx::copy(v + turn.stage * TILE, a.v + at, TILE, v_full + 8 * turn.stage, policy);
      }
      __syncwarp();
    }
  }
}

template <int D, Codes CODES, int STAGES>
__device__ __forceinline__ void prefill(const Argument &a) {
  using S = Shared<D, STAGES>;
  extern __shared__ uint8_t raw[];
  const uint32_t base = (ptx::shared_address(raw) + 1023) & ~1023u, k = base + S::K, v = base + S::V;
  const uint32_t k_full = base + S::BARRIERS, k_empty = k_full + 8 * STAGES, v_full = k_empty + 8 * STAGES, v_empty = v_full + 8 * STAGES;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      ptx::barrier_init(k_full + 8 * i, 1), ptx::barrier_init(v_full + 8 * i, 1);
      ptx::barrier_init(k_empty + 8 * i, 4 * CONSUMERS), ptx::barrier_init(v_empty + 8 * i, 4 * CONSUMERS);
    }
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::wait_for_predecessor();
  const int group = threadIdx.x / 128;
  if (group == CONSUMERS) {
    ptx::registers_down<32>();
    if (threadIdx.x / 32 % 4 == 0) produce<D, STAGES>(a, k, v, k_full, k_empty, v_full, v_empty);
  } else {
    ptx::registers_up<160>();
    const int thread = threadIdx.x % 128, items = Item::count(a, CONSUMERS);
    Consumer<D, CODES, STAGES> c{a, base + group * ROWS * D, k, v, base + S::SHIFT + 4 * group * ROWS, k_full, k_empty, v_full, v_empty, group, thread};
    for (int i = blockIdx.x; i < items; i += gridDim.x) {
      Item item(a, i, CONSUMERS);
      const int row0 = item.row + group * ROWS;
      c.round_q(item, row0);
      c.run(item, row0);
      c.store(item, row0);
    }
  }
}

}  // namespace attention

#define ATTENTION(NAME, D, CODES, STAGES)                                                                               \
  extern "C" __global__ void __launch_bounds__(512, 1) NAME(const __grid_constant__ attention::Argument a) {            \
    attention::prefill<D, attention::Codes::CODES, STAGES>(a);                                                          \
  }

ATTENTION(attention_int8_128, 128, INT8, 3)
ATTENTION(attention_e4m3_128, 128, E4M3, 3)
ATTENTION(attention_int8_64, 64, INT8, 4)
ATTENTION(attention_e4m3_64, 64, E4M3, 4)
