// K3: y (M, N) = INT4 weights x E4M3 activations, for many tokens.
//
// A block owns tiles of 128 channels x TM tokens: a producer warp fills a ring of slabs with bulk copies, two warpgroups of 64 channels
// each compute (mainloop.cuh). CLUSTER neighbouring blocks take neighbouring channels of the same tokens, and each fetches its share of
// the activations for all of them. Blocks stay and walk over the tiles, tokens first within a band, so that a band's activations stay in L2.
#include <type_traits>

#include "gemm.cuh"
#include "mainloop.cuh"

namespace {

constexpr int GROUPED_TILES = 16;  // token tiles of a band

template <int TM, int GROUPS, int CLUSTER, int STAGES>
struct Shared {
  static constexpr int X = TM * layout::SLAB, W = 2 * layout::unit_bytes(GROUPS);
  static constexpr int PASSES = TM > 128 ? 2 : 1, OUT_TOKENS = TM / PASSES, OUT = OUT_TOKENS * layout::ROWS * 2;  // of the epilogue
  static constexpr int X_AT = 0, W_AT = X_AT + STAGES * X, OUT_AT = (W_AT + STAGES * W + 127) / 128 * 128, TOKEN_AT = OUT_AT + 2 * OUT;
  static constexpr int FULL_AT = TOKEN_AT + 2 * TM * 4, EMPTY_AT = FULL_AT + 8 * STAGES, BYTES = EMPTY_AT + 8 * STAGES;
};

// The tiles in the order in which clusters take them.
struct Tiles {
  int m_tiles, n_tiles;
  __device__ __forceinline__ int count() const { return m_tiles * n_tiles; }
  __device__ __forceinline__ int2 at(int i) const {  // token tile, channel tile
    const int band = i / (GROUPED_TILES * n_tiles), rest = i % (GROUPED_TILES * n_tiles);
    const int high = min(GROUPED_TILES, m_tiles - band * GROUPED_TILES);
    return {band * GROUPED_TILES + rest % high, rest / high};
  }
};

template <int TM, int PIECES, Codes CODES, int GROUPS, int CLUSTER, int STAGES>
__device__ __forceinline__ void prefill(const Gemm &p) {
  using S = Shared<TM, GROUPS, CLUSTER, STAGES>;
  constexpr int UNIT = layout::unit_bytes(GROUPS), SHARE = TM / CLUSTER;
  extern __shared__ __align__(1024) uint8_t shared[];
  const uint32_t base = ptx::shared_address(shared);
  const uint32_t rank = CLUSTER > 1 ? ptx::cluster_rank() : 0;
  const int group = threadIdx.x / 128;
  const Tiles tiles{(p.m + TM - 1) / TM, (p.n + 128 * CLUSTER - 1) / (128 * CLUSTER)};
  const int first = blockIdx.x / CLUSTER, stride = gridDim.x / CLUSTER;

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      ptx::barrier_init(base + S::FULL_AT + 8 * s, 1);
      ptx::barrier_init(base + S::EMPTY_AT + 8 * s, 8 * CLUSTER);
    }
    ptx::fence_barrier_init();
    ptx::launch_dependents();
  }
  if (CLUSTER > 1) {
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
  __syncthreads();
  ptx::wait_for_predecessor();

  if (group == 2) {
    ptx::registers_down<40>();
    if (threadIdx.x / 32 == 8) {
      const uint64_t keep = ptx::policy_evict_last(), pass = ptx::policy_evict_first();
      int stage = 0;
      uint32_t phase = 1;
#pragma unroll 1
      for (int i = first; i < tiles.count(); i += stride) {
        const int2 tile = tiles.at(i);
        const int rows = min(TM, p.m_pad - tile.x * TM);
        const int mine = max(0, min(SHARE, rows - int(rank) * SHARE)) * layout::SLAB;
        const uint8_t *x = p.x + (size_t(tile.x) * TM + rank * SHARE) * layout::SLAB;
        const uint8_t *w = p.w + size_t(tile.y * CLUSTER + rank) * 2 * p.slabs * UNIT;
#pragma unroll 1
        for (int k = 0; k < p.slabs; k++) {
          ptx::barrier_wait(base + S::EMPTY_AT + 8 * stage, phase);
          if (ptx::elect()) {
            const uint32_t full = base + S::FULL_AT + 8 * stage, to = base + S::W_AT + stage * S::W;
            ptx::barrier_expect(full, 2 * UNIT + rows * layout::SLAB);
            ptx::copy(to, w, UNIT, full, pass);
            ptx::copy(to + UNIT, w + size_t(p.slabs) * UNIT, UNIT, full, pass);
            if (mine > 0) {
              const uint32_t tox = base + S::X_AT + stage * S::X + rank * SHARE * layout::SLAB;
              if (CLUSTER > 1) ptx::copy_multicast(tox, x, mine, full, (1 << CLUSTER) - 1, keep);
              else ptx::copy(tox, x, mine, full, keep);
            }
          }
          w += UNIT;
          x += size_t(p.m_pad) * layout::SLAB;
          if (++stage == STAGES) stage = 0, phase ^= 1;
        }
      }
    }
  } else {
    ptx::registers_up<232>();
    const Ring ring{base + S::FULL_AT, base + S::EMPTY_AT, base + S::X_AT, base + S::W_AT + group * UNIT};
    using R = Reader<CODES, GROUPS, STAGES, S::X, S::W, CLUSTER>;
    std::conditional_t<CODES == Codes::TABLE, Straight<R, TM>, Promoted<R, TM, PIECES>> loop(ring);
    const int thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
    const uint32_t out = base + S::OUT_AT + group * S::OUT, tokens = base + S::TOKEN_AT + group * TM * 4;
    for (int i = first; i < tiles.count(); i += stride) {
      const int2 tile = tiles.at(i);
      const int m0 = tile.x * TM, n0 = (tile.y * CLUSTER + int(rank)) * 128 + group * 64;
      const int row = n0 + warp * 16 + lane / 4;
      const float unit = CODES == Codes::TABLE ? 0x1p-9f : 1;  // channel factors are meant for codes times 2^-9
      const float2 channel = {p.channel[row] * unit, p.channel[row + 8] * unit};
      const float2 bias = p.bias ? make_float2(p.bias[row], p.bias[row + 8]) : make_float2(0, 0);
      float token[(TM + 127) / 128];
#pragma unroll
      for (int j = 0; j < TM; j += 128) token[j / 128] = m0 + j + thread < p.m ? p.token[m0 + j + thread] : 0;
      float acc[TM / 2];
#pragma unroll
      for (int j = 0; j < TM / 2; j++) acc[j] = 0;
      loop.run(acc, p.slabs);

      // y = acc * channel * token + bias, transposed through shared memory: rows of 64 channels, chunks swizzled by token & 7.
#pragma unroll
      for (int j = 0; j < TM; j += 128)
        if (j + thread < TM) asm volatile("st.shared.f32 [%0], %1;" ::"r"(tokens + (j + thread) * 4), "f"(token[j / 128]) : "memory");
      ptx::named_sync(1 + group, 128);
#pragma unroll
      for (int pass = 0; pass < S::PASSES; pass++) {
        const int first_token = pass * S::OUT_TOKENS;
#pragma unroll
        for (int j = 0; j < S::OUT_TOKENS / 8; j += 2) {
          uint32_t v[4];
#pragma unroll
          for (int q = 0; q < 2; q++) {
            const int at = first_token / 8 + j + q;
            float2 s;
            asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(s.x), "=f"(s.y) : "r"(tokens + (8 * at + 2 * (lane % 4)) * 4));
            const float *d = acc + 4 * at;
            v[2 * q] = ptx::bf16_of_floats(fmaf(d[0] * channel.x, s.x, bias.x), fmaf(d[1] * channel.x, s.y, bias.x));
            v[2 * q + 1] = ptx::bf16_of_floats(fmaf(d[2] * channel.y, s.x, bias.y), fmaf(d[3] * channel.y, s.y, bias.y));
          }
          const int t = 8 * (j + lane / 16) + lane % 8, chunk = 2 * warp + lane / 8 % 2;  // lane / 8: the matrix whose row this lane addresses
          ptx::store_matrices_transposed(out + t * 128 + ((chunk ^ (t & 7)) << 4), v[0], v[1], v[2], v[3]);
        }
        ptx::named_sync(1 + group, 128);
        const int chunk = thread % 8, n = n0 + chunk * 8;
#pragma unroll
        for (int t = thread / 8; t < S::OUT_TOKENS; t += 16) {
          const int m = m0 + first_token + t;
          if (m < p.m) store_outputs(p, m, n, ptx::load_shared_128(out + t * 128 + ((chunk ^ (t & 7)) << 4)));
        }
        if (pass + 1 < S::PASSES) ptx::named_sync(1 + group, 128);
      }
    }
  }
  if (CLUSTER > 1) {  // no block leaves while another still copies to it or arrives at its barriers
    ptx::cluster_arrive();
    ptx::cluster_wait();
  }
}

}  // namespace

#define PREFILL(TM, PIECES, CODES, GROUP, CLUSTER, STAGES, NAME)                                            \
  extern "C" __global__ void __launch_bounds__(384, 1) NAME(const __grid_constant__ Gemm p) {               \
    prefill<TM, PIECES, Codes::CODES, 128 / GROUP, CLUSTER, STAGES>(p);                                     \
  }                                                                                                         \
  GEMM_SHAPE(NAME, 384, (Shared<TM, 128 / GROUP, CLUSTER, STAGES>::BYTES), TM, 128 * CLUSTER, CLUSTER)      \
  static_assert(Shared<TM, 128 / GROUP, CLUSTER, STAGES>::BYTES <= 232448, #NAME);

#define PREFILL_ALL(TM, PIECES, CLUSTER, STAGES)                                                       \
  PREFILL(TM, PIECES, SIGNED7, 128, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_signed7_g128)        \
  PREFILL(TM, PIECES, SIGNED8, 128, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_signed8_g128)        \
  PREFILL(TM, PIECES, SIGNED7, 64, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_signed7_g64)          \
  PREFILL(TM, PIECES, SIGNED8, 64, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_signed8_g64)

#define PREFILL_TABLE(TM, PIECES, CLUSTER, STAGES)                                                     \
  PREFILL(TM, PIECES, TABLE, 128, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_table_g128)            \
  PREFILL(TM, PIECES, TABLE, 64, CLUSTER, STAGES, prefill_m##TM##_c##CLUSTER##_table_g64)

PREFILL_ALL(128, 2, 1, 7)
PREFILL_ALL(192, 3, 2, 6)
PREFILL_TABLE(128, 1, 1, 7)
PREFILL_TABLE(256, 1, 1, 4)
PREFILL_TABLE(256, 1, 2, 4)
