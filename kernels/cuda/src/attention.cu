// Prefill attention, 8-bit: softmax(Q K^T) V with INT8 or E4M3 products for the scores and E4M3 ones for the output (SageAttention2, arXiv
// 2411.10958; warp roles of FlashAttention-3, arXiv 2407.08608).
//
// A block is a producer warp and three warpgroups of 64 query rows (attention_consumer.cuh). It goes over items (attention.cuh); the producer streams
// the key tiles through a ring of stages. Two warpgroups are in the softmax while one has the tensor core.
#include "attention_consumer.cuh"

namespace attention {

constexpr int CONSUMERS = 3;  // warpgroups

// Starts an item's queries on their way to L2: the consumers want them when they are through with the ring.
template <int D, bool SPARSE>
__device__ __forceinline__ void announce(const Argument &a, const Item<SPARSE> &item) {
#pragma unroll 1
  for (int u = item.unit; u < item.unit + item.units; u++)
    for (int row = item.row(a, u) + threadIdx.x % 32, i = 0; i < ROWS / 32 && row < a.lq; row += 32, i++) {
      const __nv_bfloat16 *q = a.q + ((size_t(item.sequence) * a.lq + row) * a.heads + item.head(a, u)) * D;
#pragma unroll
      for (int c = 0; c < D; c += 64) ptx::prefetch(q + c);
    }
}

// The producer's warp: K and V of every tile of every item, in the order in which the consumers take them.
template <int D, int STAGES, bool SPARSE>
__device__ __forceinline__ void produce(const Argument &a, uint32_t base) {
  using S = Shared<D, STAGES, CONSUMERS>;
  const uint64_t policy = ptx::policy_evict_last();
  const int items = Item<SPARSE>::count(a, CONSUMERS);
  Turn<STAGES> turn;
  const auto load = [&](int full, int empty, int to, const uint8_t *from) {
    const uint32_t bar = base + full + 8 * turn.stage;
    ptx::barrier_wait(base + empty + 8 * turn.stage, turn.phase ^ 1);
    if (ptx::elect()) {
      ptx::barrier_expect(bar, S::TILE);
      ptx::copy(base + to + turn.stage * S::TILE, from, S::TILE, bar, policy);
    }
    __syncwarp();
  };
  for (int i = blockIdx.x; i < items; i += gridDim.x) {
    Item<SPARSE> item(a, i, CONSUMERS);
    announce<D>(a, item);
    for (; item.more(); item.next(a), turn.next()) {
      const size_t at = (size_t(item.shared) * a.tiles + item.tile) * S::TILE;
      load(S::K_FULL, S::K_EMPTY, S::K, a.k + at);
      load(S::V_FULL, S::V_EMPTY, S::V, a.v + at);
    }
  }
}

template <int D, Codes CODES, int STAGES, bool SPARSE, bool TURNS>
__device__ __forceinline__ void prefill(const Argument &a) {
  extern __shared__ uint8_t bytes[];
  const uint32_t base = (ptx::shared_address(bytes) + 1023) & ~1023u;
  if (threadIdx.x == 0) {
    Shared<D, STAGES, CONSUMERS>::init(base, 1);
    ptx::fence_barrier_init();
  }
  __syncthreads();
  ptx::wait_for_predecessor();
  const int group = threadIdx.x / 128;
  if (group == CONSUMERS) {
    ptx::registers_down<32>();
    if (threadIdx.x / 32 % 4 == 0) produce<D, STAGES, SPARSE>(a, base);
  } else {
    ptx::registers_up<160>();
    Consumer<D, CODES, STAGES, CONSUMERS, SPARSE, false, TURNS> c{a, base, group, static_cast<int>(threadIdx.x % 128)};
    c.work();
  }
}

}  // namespace attention

#define ATTENTION(NAME, D, CODES, STAGES, SPARSE, TURNS)                                                     \
  extern "C" __global__ void __launch_bounds__(512, 1) NAME(const __grid_constant__ attention::Argument a) { \
    attention::prefill<D, attention::Codes::CODES, STAGES, SPARSE, TURNS>(a);                                \
  }

ATTENTION(attention_int8_128, 128, INT8, 3, false, false)
ATTENTION(attention_int8_128_sparse, 128, INT8, 3, true, false)
ATTENTION(attention_int8_128_turned, 128, INT8, 3, false, true)
ATTENTION(attention_int8_128_sparse_turned, 128, INT8, 3, true, true)
ATTENTION(attention_e4m3_128, 128, E4M3, 3, false, false)
ATTENTION(attention_e4m3_128_sparse, 128, E4M3, 3, true, false)
ATTENTION(attention_int8_64, 64, INT8, 4, false, false)
ATTENTION(attention_int8_64_sparse, 64, INT8, 4, true, false)
ATTENTION(attention_int8_64_turned, 64, INT8, 4, false, true)
ATTENTION(attention_int8_64_sparse_turned, 64, INT8, 4, true, true)
ATTENTION(attention_e4m3_64, 64, E4M3, 4, false, false)
ATTENTION(attention_e4m3_64_sparse, 64, E4M3, 4, true, false)
