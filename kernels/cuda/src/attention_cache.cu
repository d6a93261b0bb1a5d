// Prefill attention over an INT4 cache with FP8 queries, in FireQ's three stages (arXiv 2505.20839): load, expand, multiply.
//
//   copy engine  records of the cache -> shared memory, two tiles ahead
//   producer     a warpgroup: codes -> E4M3(offset + scale code), into the tiles that wgmma reads: K as it is, V transposed
//   consumers    two warpgroups: attention_consumer.cuh
//
// kvlayout.go draws a record (64 tokens; a tile is two of them), attention_quantize.cu the tiles.
#include <cuda_fp16.h>

#include "attention_consumer.cuh"
#include "kvcache.cuh"

namespace attention {

constexpr int CONSUMERS = 2;  // warpgroups
constexpr int STAGES = 2;     // of expanded tiles, and of records

// Scale and offset of a token's group; zeros for a token that does not exist, where the bytes may be a NaN.
template <bool AFFINE>
__device__ __forceinline__ float2 parameter(uint32_t from, int i, bool exists) {
  if (!exists) return make_float2(0, 0);
  if constexpr (AFFINE) {
    const uint32_t two = ptx::load_shared_32(from + 4 * i);
    return __half22float2(*reinterpret_cast<const half2 *>(&two));
  } else {
    const uint32_t h = ptx::halves_of_e4m3(ptx::load_shared_8(from + i));
    const float scale = __low2float(*reinterpret_cast<const half2 *>(&h));
    return make_float2(scale, -8 * scale);
  }
}

// Code n of a word, expanded.
__device__ __forceinline__ float expanded(uint32_t word, int n, float2 p) { return fmaf(static_cast<float>(word >> 4 * n & 15), p.x, p.y); }

// Keys of a tile: a thread has token `thread`, whose word t D/32 + j is channels 32j + 8t ..+7.
template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void expand_keys(uint32_t raw, uint32_t k, int thread, bool exists) {
  using R = kv::Record<D, GROUP, AFFINE>;
  const uint32_t record = raw + thread / kv::BLOCK * R::BYTES;
  const int token = thread % kv::BLOCK;
#pragma unroll
  for (int j = 0; j < D / 32; j++) {
    const float2 p = parameter<AFFINE>(record + R::KEY_PARAMETERS, j * 32 / GROUP * kv::BLOCK + token, exists);
#pragma unroll
    for (int pair = 0; pair < 2; pair++) {  // 16 channels
      uint32_t w[4];
#pragma unroll
      for (int t = 0; t < 2; t++) {
        const uint32_t word = ptx::load_shared_32(record + token * (D / 2) + 4 * ((2 * pair + t) * (D / 32) + j));
#pragma unroll
        for (int n = 0; n < 2; n++)
          w[2 * t + n] = pack_e4m3(expanded(word, 4 * n, p), expanded(word, 4 * n + 1, p), expanded(word, 4 * n + 2, p), expanded(word, 4 * n + 3, p));
      }
      ptx::store_shared_128(k + chunk_at<D>(thread, 2 * j + pair), w[0], w[1], w[2], w[3]);
    }
  }
}

// Values of a tile: 16 bytes of a record are eight channels of the tokens 2t, 2t+1, 2t+8, 2t+9 of 16, which are the four neighbours of a row of V^T.
template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void expand_values(uint32_t raw, uint32_t v, int thread, int tokens) {
  using R = kv::Record<D, GROUP, AFFINE>;
  constexpr int HALVES = D / 64;  // 64 channels each
  const int lane = thread % 32, g = lane / 4, t = lane % 4;
#pragma unroll 1
  for (int i = thread / 32; i < 8 * HALVES; i += 4) {
    const int block = i / HALVES, half = i % HALVES;  // 16 tokens
    const uint32_t record = raw + block / 4 * R::BYTES;
    const uint4 four = ptx::load_shared_128(record + R::VALUES + block % 4 * (8 * D) + half * 512 + lane * 16);
    const uint32_t words[2][2] = {{four.x, four.y}, {four.z, four.w}};  // [32 channels][tokens 2t, 2t+1; 2t+8, 2t+9]
#pragma unroll
    for (int c = 0; c < 2; c++) {
      float2 p[4];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const int token = block * 16 + 2 * t + j % 2 + 8 * (j / 2);
        p[j] = parameter<AFFINE>(record + R::VALUE_PARAMETERS, (64 * half + 32 * c) / GROUP * kv::BLOCK + token % kv::BLOCK, token < tokens);
      }
#pragma unroll
      for (int m = 0; m < 4; m++) {
        const int n = (m + g / 2) % 4, channel = 64 * half + 32 * c + 4 * g + n;  // eight rows at a time in eight banks
        const uint32_t near = words[c][0] >> 4 * n, far = words[c][1] >> 4 * n;
        ptx::store_shared_32(v + chunk_at<KEYS>(channel, block) + 4 * t,
                             pack_e4m3(expanded(near, 0, p[0]), expanded(near, 4, p[1]), expanded(far, 0, p[2]), expanded(far, 4, p[3])));
      }
    }
  }
}

template <int D, int GROUP, bool AFFINE>
struct Producer {
  using R = kv::Record<D, GROUP, AFFINE>;
  using S = Shared<D, STAGES, CONSUMERS>;
  static constexpr int RAW = S::BYTES - 1024, RAW_BYTES = 2 * R::BYTES, LOADED = RAW + STAGES * RAW_BYTES;  // records, and their barriers

  const Argument &a;
  const uint32_t base;
  const int thread;

  // Starts the copy of a tile's records. One thread calls it.
  __device__ __forceinline__ void load(const Item<false> &item, int stage) const {
    const int records = min(2, a.capacity - 2 * item.tile);
    const uint32_t bar = base + LOADED + 8 * stage;
    ptx::barrier_expect(bar, records * R::BYTES);
    ptx::copy(base + RAW + stage * RAW_BYTES, a.k + (size_t(item.shared) * a.capacity + 2 * item.tile) * R::BYTES, records * R::BYTES, bar,
              ptx::policy_evict_last());
  }

  // Gives a tile to the consumers.
  __device__ __forceinline__ void publish(int full, int stage) const {
    ptx::fence_proxy_async();
    __syncwarp();
    if (thread % 32 == 0) ptx::barrier_arrive(base + full + 8 * stage);
  }

  __device__ __forceinline__ void work() const {
    const int items = Item<false>::count(a, CONSUMERS);
    Turn<STAGES> turn;
    for (int i = blockIdx.x; i < items; i += gridDim.x) {
      Item<false> item(a, i, CONSUMERS), ahead = item;
      if (thread == 0) {
        Turn<STAGES> at = turn;
        for (int s = 0; s < STAGES && ahead.more(); s++, ahead.next(a), at.next()) load(ahead, at.stage);
      }
      for (; item.more(); item.next(a), turn.next()) {
        const int stage = turn.stage;
        const uint32_t raw = base + RAW + stage * RAW_BYTES;
        ptx::barrier_wait(base + LOADED + 8 * stage, turn.phase);
        ptx::barrier_wait(base + S::K_EMPTY + 8 * stage, turn.phase ^ 1);
        expand_keys<D, GROUP, AFFINE>(raw, base + S::K + stage * S::TILE, thread, item.tile * KEYS + thread < a.lk);
        publish(S::K_FULL, stage);
        ptx::barrier_wait(base + S::V_EMPTY + 8 * stage, turn.phase ^ 1);
        expand_values<D, GROUP, AFFINE>(raw, base + S::V + stage * S::TILE, thread, a.lk - item.tile * KEYS);
        publish(S::V_FULL, stage);
        ptx::named_sync(1 + CONSUMERS, 128);  // the records have been read
        if (thread == 0 && ahead.more()) {
          load(ahead, stage);
          ahead.next(a);
        }
      }
    }
  }
};

template <int D, int GROUP, bool AFFINE>
__device__ __forceinline__ void cached(const Argument &a) {
  using P = Producer<D, GROUP, AFFINE>;
  extern __shared__ uint8_t bytes[];
  const uint32_t base = (ptx::shared_address(bytes) + 1023) & ~1023u;
  if (threadIdx.x == 0) {
    P::S::init(base, 4);
    for (int i = 0; i < STAGES; i++) ptx::barrier_init(base + P::LOADED + 8 * i, 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::wait_for_predecessor();
  const int group = threadIdx.x / 128, thread = threadIdx.x % 128;
  if (group == CONSUMERS) {
    ptx::registers_down<88>();  // 384 threads of 168 registers are 128 of 88 and 256 of 208: one too many, and the consumers wait for ever
    const P p{a, base, thread};
    p.work();
  } else {
    ptx::registers_up<208>();
    Consumer<D, Codes::E4M3, STAGES, CONSUMERS, false, true, false> c{a, base, group, thread};
    c.work();
  }
}

}  // namespace attention

#define ATTENTION_CACHE(D, GROUP)                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_cache_d##D##_g##GROUP##_affine(const __grid_constant__ attention::Argument a) {    \
    attention::cached<D, GROUP, true>(a);                                                                                                           \
  }                                                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_cache_d##D##_g##GROUP##_symmetric(const __grid_constant__ attention::Argument a) { \
    attention::cached<D, GROUP, false>(a);                                                                                                          \
  }

ATTENTION_CACHE(64, 32)
ATTENTION_CACHE(64, 64)
ATTENTION_CACHE(128, 32)
ATTENTION_CACHE(128, 64)
ATTENTION_CACHE(128, 128)
