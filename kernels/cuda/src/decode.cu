// K4: y (M, N) = INT4 weights x E4M3 activations, for few tokens: the weights' bytes are the time.
//
// A block owns WN x 64 channels and a share of K; the blocks of a cluster (one row of the grid, a power of two) divide K among them. Within
// a block a producer warp streams slabs through a ring, and WN x WK warpgroups compute: WN along the channels, WK taking slabs in turn.
//
//   cluster rank r: slabs [r S / R, (r+1) S / R)        stage i of the block: WK slabs, one for each warpgroup along K
//
// Each rank finishes a share of the tokens: every warpgroup of the cluster sends it its partial sums of them, and they are added in one fixed
// order, so that every launch gives the same bits. Weights do not depend on the kernel before this one: the ring is filled before its end
// is awaited (programmatic dependent launch).
#include "gemm.cuh"
#include "mainloop.cuh"

namespace {

template <int TM, int GROUPS, int WN, int WK, int STAGES>
struct Shared {
  static constexpr int UNIT = layout::unit_bytes(GROUPS);
  static constexpr int X_SLAB = TM * layout::SLAB, X = WK * X_SLAB, W = WN * WK * UNIT;
  static constexpr int X_AT = 0, W_AT = STAGES * X;
  // Partial sums as the threads hold them: [rank][wk][pair of tokens][wn][warp][g] of (row g: two tokens, row g+8: two tokens).
  static constexpr int SUMS_AT = W_AT + STAGES * W, SUMS = WN * WK * TM * layout::ROWS * 4;
  static constexpr int CHANNEL_AT = SUMS_AT + SUMS, BIAS_AT = CHANNEL_AT + WN * 256, TOKEN_AT = BIAS_AT + WN * 256;
  static constexpr int FULL_AT = TOKEN_AT + TM * 4, EMPTY_AT = FULL_AT + 8 * STAGES, FACTORS_AT = EMPTY_AT + 8 * STAGES, RECEIVED_AT = FACTORS_AT + 8;
  static constexpr int BYTES = RECEIVED_AT + 8;
};

// Threads of a block: the last warp is the producer. Tiles of 128 tokens need more registers than an even division gives, which warpgroups
// can hand over only whole (setmaxnreg).
__host__ __device__ constexpr bool handover(int tm) { return tm >= 128; }
__host__ __device__ constexpr int threads(int tm, int wn, int wk) { return 128 * wn * wk + (handover(tm) ? 128 : 32); }

template <int TM, Codes CODES, int GROUPS, int WN, int WK, int STAGES, bool LEAN>
__device__ __forceinline__ void decode(const Gemm &p) {
  using S = Shared<TM, GROUPS, WN, WK, STAGES>;
  constexpr int UNIT = S::UNIT, COMPUTING = WN * WK;
  static_assert(STAGES <= 32);
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = ptx::shared_address(shared);
  const int ranks = gridDim.x, rank = blockIdx.x;
  const int block = blockIdx.y * WN, m0 = blockIdx.z * TM;
  const int from = p.slabs * rank / ranks, slabs = p.slabs * (rank + 1) / ranks - from;
  const int group = threadIdx.x / 128, lane = threadIdx.x % 32;
  const bool producer = threadIdx.x / 32 == 4 * COMPUTING;
  const int pairs = TM / 2 / ranks;  // of tokens that a rank finishes
  const uint32_t factors = base + S::FACTORS_AT, received = base + S::RECEIVED_AT;

  // The producer's view of the operands; stage i holds slabs i WK ..
  const uint64_t keep = ptx::policy_evict_last(), pass = ptx::policy_evict_first();
  const int rows = min(TM, p.m_pad - m0), stages = (slabs + WK - 1) / WK, ahead = min(STAGES, stages);
  const uint8_t *w = p.w + (size_t(block) * p.slabs + from) * UNIT;
  const uint8_t *x = p.x + (size_t(from) * p.m_pad + m0) * layout::SLAB;
  auto weights = [&](int i, int stage) {
    const int count = min(WK, slabs - i * WK);
    const uint32_t full = base + S::FULL_AT + 8 * stage;
    ptx::barrier_expect(full, count * (WN * UNIT + rows * layout::SLAB));
#pragma unroll
    for (int n = 0; n < WN; n++)
      ptx::copy(base + S::W_AT + stage * S::W + n * WK * UNIT, w + (size_t(n) * p.slabs + i * WK) * UNIT, count * UNIT, full, pass);
  };
  auto activations = [&](int i, int stage) {
    const int count = min(WK, slabs - i * WK);
    for (int k = 0; k < count; k++)
      ptx::copy(base + S::X_AT + stage * S::X + k * S::X_SLAB, x + size_t(i * WK + k) * p.m_pad * layout::SLAB, rows * layout::SLAB,
                base + S::FULL_AT + 8 * stage, keep);
  };

  if (producer) {
    if (lane < STAGES) {
      ptx::barrier_init(base + S::FULL_AT + 8 * lane, 1);
      ptx::barrier_init(base + S::EMPTY_AT + 8 * lane, 4 * COMPUTING);
    }
    if (lane == 0) {
      ptx::barrier_init(factors, 1);
      ptx::barrier_init(received, 1);
    }
    ptx::fence_barrier_init();
    __syncwarp();
#pragma unroll 1
    for (int i = 0; i < ahead; i++)
      if (ptx::elect()) weights(i, i);
    if (ptx::elect()) {
      ptx::launch_dependents();
      ptx::barrier_expect(received, COMPUTING * ranks * pairs * 512);
      ptx::barrier_expect(factors, WN * 256 * (p.bias ? 2 : 1) + rows * 4);
      ptx::copy(base + S::CHANNEL_AT, p.channel + block * 64, WN * 256, factors, pass);
      if (p.bias) ptx::copy(base + S::BIAS_AT, p.bias + block * 64, WN * 256, factors, pass);
    }
    __syncwarp();
  }
  if (ranks > 1) ptx::cluster_arrive();
  __syncthreads();

  if (group == COMPUTING) {
    if (handover(TM)) ptx::registers_down<40>();
    if (producer) {
      ptx::wait_for_predecessor();
#pragma unroll 1
      for (int i = 0; i < ahead; i++)
        if (ptx::elect()) activations(i, i);
      if (ptx::elect()) ptx::copy(base + S::TOKEN_AT, p.token + m0, rows * 4, factors, keep);
      int stage = 0;
      uint32_t phase = 0;
#pragma unroll 1
      for (int i = STAGES; i < stages; i++) {
        ptx::barrier_wait(base + S::EMPTY_AT + 8 * stage, phase);
        if (ptx::elect()) {
          weights(i, stage);
          activations(i, stage);
        }
        if (++stage == STAGES) stage = 0, phase ^= 1;
      }
    }
    if (ranks > 1) ptx::cluster_wait();
  } else {
    if (handover(TM)) ptx::registers_up<232>();
    const int wn = group / WK, wk = group % WK;
    const Ring ring{base + S::FULL_AT, base + S::EMPTY_AT, base + S::X_AT + wk * S::X_SLAB, base + S::W_AT + group * UNIT};
    Promoted<Reader<CODES, GROUPS, STAGES, S::X, S::W, 1>, TM, (TM >= 64 ? 2 : 1), LEAN> loop(ring);
    float acc[TM / 2];
#pragma unroll
    for (int i = 0; i < TM / 2; i++) acc[i] = 0;
    const int mine = (slabs - wk + WK - 1) / WK;
    if (mine > 0) loop.run(acc, mine);

    // Pair 4j + t of tokens goes to the rank that finishes it.
    const int thread = threadIdx.x % 128, at = wn * 32 + thread / 4;
    if (ranks > 1) {
      ptx::cluster_wait();  // barriers of the others exist
#pragma unroll
      for (int j = 0; j < TM / 8; j++) {
        const int pair = 4 * j + thread % 4;
        const uint32_t to = base + S::SUMS_AT + (((rank * WK + wk) * pairs + pair % pairs) * 32 * WN + at) * 16;
        ptx::store_to(to, received, pair / pairs, acc[4 * j], acc[4 * j + 1], acc[4 * j + 2], acc[4 * j + 3]);
      }
      ptx::barrier_wait(received, 0);
    } else {
#pragma unroll
      for (int j = 0; j < TM / 8; j++) {
        const int pair = 4 * j + thread % 4;
        const uint32_t to = base + S::SUMS_AT + ((wk * pairs + pair) * 32 * WN + at) * 16;
        ptx::store_shared_128(to, acc[4 * j], acc[4 * j + 1], acc[4 * j + 2], acc[4 * j + 3]);
      }
      ptx::named_sync(1, 128 * COMPUTING);
    }

    // Two channels of one token at a time: the sum over ranks and warpgroups along K, scaled.
    ptx::wait_for_predecessor();
    ptx::barrier_wait(factors, 0);
    const int first = rank * pairs * 2, tokens = min(2 * pairs, p.m - m0 - first), sources = ranks * WK;
    for (int i = threadIdx.x; i < tokens * 32 * WN; i += 128 * COMPUTING) {
      const int t = i / (32 * WN), c = i % (32 * WN) * 2;  // channel c = 64 wn + 16 warp + 8 h + g
      const uint32_t from_at = base + S::SUMS_AT + (t / 2 * 32 * WN + c / 16 * 8 + c % 8) * 16 + (c / 8 % 2 * 2 + t % 2) * 4;
      float low = 0, high = 0;
      for (int s = 0; s < sources; s++) {
        low += ptx::load_shared_f32(from_at + s * pairs * 32 * WN * 16);
        high += ptx::load_shared_f32(from_at + s * pairs * 32 * WN * 16 + 16);
      }
      const float token = ptx::load_shared_f32(base + S::TOKEN_AT + (first + t) * 4);
      const uint32_t at_channel = base + S::CHANNEL_AT + c * 4, at_bias = base + S::BIAS_AT + c * 4;
      const float bias_low = p.bias ? ptx::load_shared_f32(at_bias) : 0, bias_high = p.bias ? ptx::load_shared_f32(at_bias + 4) : 0;
      low = fmaf(low * ptx::load_shared_f32(at_channel), token, bias_low);
      high = fmaf(high * ptx::load_shared_f32(at_channel + 4), token, bias_high);
      store_outputs(p, m0 + first + t, block * 64 + c, ptx::bf16_of_floats(low, high));
    }
  }
}

}  // namespace

#define DECODE(TM, CODES, GROUP, WN, WK, STAGES, BLOCKS, LEAN, NAME)                                                     \
  extern "C" __global__ void __launch_bounds__(threads(TM, WN, WK), BLOCKS) NAME(const __grid_constant__ Gemm p) {       \
    decode<TM, Codes::CODES, 128 / GROUP, WN, WK, STAGES, LEAN>(p);                                                      \
  }                                                                                                                      \
  GEMM_SHAPE(NAME, threads(TM, WN, WK), (Shared<TM, 128 / GROUP, WN, WK, STAGES>::BYTES), TM, 64 * WN, 1)                \
  static_assert(BLOCKS * (Shared<TM, 128 / GROUP, WN, WK, STAGES>::BYTES + 1024) <= 233472, #NAME);

#define DECODE_ALL(TM, WN, WK, STAGES, BLOCKS, LEAN)                                                       \
  DECODE(TM, SIGNED7, 128, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_signed7_g128)       \
  DECODE(TM, SIGNED8, 128, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_signed8_g128)       \
  DECODE(TM, TABLE, 128, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_table_g128)           \
  DECODE(TM, SIGNED7, 64, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_signed7_g64)         \
  DECODE(TM, SIGNED8, 64, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_signed8_g64)         \
  DECODE(TM, TABLE, 64, WN, WK, STAGES, BLOCKS, LEAN, decode_m##TM##_w##WN##x##WK##_table_g64)

DECODE_ALL(8, 1, 2, 10, 2, false)
DECODE_ALL(8, 2, 1, 10, 2, false)
DECODE_ALL(16, 1, 2, 8, 2, false)
DECODE_ALL(16, 2, 1, 9, 2, false)
DECODE_ALL(32, 1, 2, 5, 2, false)
DECODE_ALL(32, 2, 1, 7, 2, false)
DECODE_ALL(64, 2, 1, 11, 1, false)
DECODE_ALL(64, 4, 1, 6, 1, true)
DECODE_ALL(128, 2, 1, 6, 1, false)
