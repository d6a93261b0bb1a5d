// What a warpgroup does with a run of slabs: acc (64 channels x TM tokens) += sum over groups of scale * (codes x activations).
//
// The product of one group goes into `part`, from zero, on the tensor core; it is then multiplied by the group's scale and added
// to acc in FP32 (promotion), so that scales are exact and no tensor-core sum is longer than a group. The tokens are PIECES that
// take turns on two parts, so that one is multiplied while the other is promoted; with two pieces:
//
//   tensor core   | piece 0, group i | piece 1, group i   | piece 0, group i+1 | piece 1, group i+1 |
//   FP32 and ALU  | expand group i+1 | promote 0, group i | promote 1, group i | expand group i+2   |
//
// Where registers are short (LEAN) one part serves all pieces, one after the other, and other warpgroups fill the gaps.
#pragma once
#include "expand.cuh"
#include "layout.cuh"
#include "wgmma.cuh"

// A ring of stages in shared memory. Barriers are 8 bytes apart.
struct Ring {
  uint32_t full, empty;  // barriers of stage 0
  uint32_t x, w;         // stage 0: activations of this warpgroup's slab, its unit of weights
};

// How a warpgroup reads weights from its ring and gives stages back. PEERS: blocks of the cluster that share the ring's activations, so that a
// release must reach them all.
template <Codes CODES, int GROUPS, int STAGES, int X_STRIDE, int W_STRIDE, int PEERS>
struct Reader {
  static constexpr int STEPS = 4 / GROUPS;  // wgmmas of a group
  using Fragment = uint32_t[STEPS][4];

  const Ring &ring;
  int next = 0, releasing = 0;  // the stage to fetch next, the oldest stage not given back
  uint32_t phase = 0;           // of the stage to fetch next
  int fetched = 0;              // the stage of the latest fragment

  __device__ __forceinline__ explicit Reader(const Ring &r) : ring(r) {}

  // Reads group GROUP of the next slab: its codes as E4M3 and the scales of rows g and g+8. The products of TABLE include the scale; theirs is
  // 2^-9, because channel factors are meant for codes times 2^-9.
  template <int GROUP>
  __device__ __forceinline__ void fetch(Fragment &a, float2 &scale) {
    if (GROUP == 0) {
      fetched = next;
      ptx::barrier_wait(ring.full + 8 * fetched, phase);
      if (++next == STAGES) next = 0, phase ^= 1;
    }
    const uint32_t unit = ring.w + fetched * W_STRIDE;
    const int thread = threadIdx.x % 128;
    const int row = thread / 4;  // 8 * warp + g
    const uint32_t pair = ptx::load_shared_16(unit + layout::CODE_BYTES + row * 2 * GROUPS + 2 * GROUP);
    uint4 raw[STEPS / 2];
#pragma unroll
    for (int c = 0; c < STEPS / 2; c++) raw[c] = ptx::load_shared_128(unit + (GROUP + c) * 2048 + thread * 16);
    const uint32_t halves = ptx::halves_of_e4m3(pair);
    if constexpr (CODES == Codes::TABLE) {
      scale = {0x1p-9f, 0x1p-9f};
      const expand::Table low = expand::table(halves), high = expand::table(halves >> 16);
#pragma unroll
      for (int c = 0; c < STEPS / 2; c++) {
        expand::products(raw[c].x, low, a[2 * c][0], a[2 * c][2]);
        expand::products(raw[c].y, high, a[2 * c][1], a[2 * c][3]);
        expand::products(raw[c].z, low, a[2 * c + 1][0], a[2 * c + 1][2]);
        expand::products(raw[c].w, high, a[2 * c + 1][1], a[2 * c + 1][3]);
      }
    } else {
      asm("{ .reg .b16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h; }" : "=f"(scale.x), "=f"(scale.y) : "r"(halves));
#pragma unroll
      for (int c = 0; c < STEPS / 2; c++) {
        expand::small<CODES>(raw[c].x, a[2 * c][0], a[2 * c][2]);
        expand::small<CODES>(raw[c].y, a[2 * c][1], a[2 * c][3]);
        expand::small<CODES>(raw[c].z, a[2 * c + 1][0], a[2 * c + 1][2]);
        expand::small<CODES>(raw[c].w, a[2 * c + 1][1], a[2 * c + 1][3]);
      }
    }
#pragma unroll
    for (int s = 0; s < STEPS; s++) ptx::pin(a[s]);  // now, while the tensor core is busy, not after it
  }

  // The descriptor of the fetched slab's tokens from n on, at the k of group GROUP.
  template <int GROUP>
  __device__ __forceinline__ uint64_t tokens(int n) const {
    return ptx::wgmma_descriptor(ring.x + fetched * X_STRIDE) + n * 8 + GROUP * STEPS * 2;
  }

  // Gives the oldest slab back to the producers.
  __device__ __forceinline__ void release() {
    const uint32_t bar = ring.empty + 8 * releasing;
    if (PEERS == 1) {
      if (threadIdx.x % 32 == 0) ptx::barrier_arrive(bar);
    } else {
      if (threadIdx.x % 32 < PEERS) ptx::barrier_arrive_at(bar, threadIdx.x % 32);
    }
    if (++releasing == STAGES) releasing = 0;
  }
};

template <typename R, int TM, int PIECES, bool LEAN = false>
struct Promoted : R {
  static constexpr int DEPTH = PIECES == 1 || LEAN ? 1 : 2;  // pieces in flight, and parts
  static constexpr int N = TM / PIECES;                      // tokens of a wgmma
  static constexpr int STEPS = R::STEPS, GROUPS = 4 / STEPS;
  using Fragment = typename R::Fragment;

  float part[DEPTH][N / 2];

  __device__ __forceinline__ explicit Promoted(const Ring &r) : R(r) {
#pragma unroll
    for (int h = 0; h < DEPTH; h++)
#pragma unroll
      for (int i = 0; i < N / 2; i++) part[h][i] = 0;
  }

  // Starts piece H of the group just fetched; PART is where it goes.
  template <int GROUP, int H, int PART>
  __device__ __forceinline__ void multiply(const Fragment &a) {
    const uint64_t b = this->template tokens<GROUP>(H * N);
    ptx::pin(part[PART]);
    ptx::wgmma_fence();
#pragma unroll
    for (int s = 0; s < STEPS; s++) ptx::Wgmma<N>::issue(part[PART], a[s], b + 2 * s, s > 0);
    ptx::wgmma_commit();
  }

  // Waits for the part while PENDING later pieces run on.
  template <int PART, int PENDING>
  __device__ __forceinline__ void wait() {
    ptx::wgmma_wait<PENDING>();
    ptx::pin(part[PART]);
  }

  // acc of piece H += scale * part.
  template <int H, int PART>
  __device__ __forceinline__ void promote(float (&acc)[TM / 2], float2 scale) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
      float &sum = acc[H * N / 2 + i];
      sum = fmaf(part[PART][i], i % 4 < 2 ? scale.x : scale.y, sum);
    }
  }

  // Finishes pieces H.. of group GROUP, of fragment a, while the group after it is fetched into b and started. AT counts pieces, to
  // name parts.
  template <int GROUP, int AT, int H = 0>
  __device__ __forceinline__ void step(float (&acc)[TM / 2], const Fragment &a, float2 scale, Fragment &b, float2 &following) {
    constexpr int NEXT = (GROUP + 1) % GROUPS, PART = (AT + H) % DEPTH, AHEAD = H + DEPTH;
    if constexpr (H < PIECES) {
      if constexpr (H == PIECES - DEPTH) this->template fetch<NEXT>(b, following);
      wait<PART, DEPTH - 1>();
      if constexpr (H == PIECES - 1 && NEXT == 0) this->release();
      promote<H, PART>(acc, scale);
      if constexpr (AHEAD < PIECES) multiply<GROUP, AHEAD, PART>(a);
      else multiply<NEXT, AHEAD - PIECES, PART>(b);
      step<GROUP, AT, H + 1>(acc, a, scale, b, following);
    }
  }

  // Finishes the last group.
  template <int AT, int H = 0>
  __device__ __forceinline__ void finish(float (&acc)[TM / 2], const Fragment &a, float2 scale) {
    constexpr int PART = (AT + H) % DEPTH, AHEAD = H + DEPTH;
    if constexpr (H < PIECES) {
      wait<PART, (H == PIECES - 1 ? 0 : DEPTH - 1)>();
      if constexpr (H == PIECES - 1) this->release();
      promote<H, PART>(acc, scale);
      if constexpr (AHEAD < PIECES) multiply<GROUPS - 1, AHEAD, PART>(a);
      finish<AT, H + 1>(acc, a, scale);
    }
  }

  // One group from beginning to end.
  template <int GROUP, int H = 0>
  __device__ __forceinline__ void whole(float (&acc)[TM / 2], const Fragment &a, float2 scale) {
    if constexpr (H < PIECES) {
      multiply<GROUP, H, 0>(a);
      wait<0, 0>();
      if constexpr (H == PIECES - 1 && GROUP == GROUPS - 1) this->release();
      promote<H, 0>(acc, scale);
      whole<GROUP, H + 1>(acc, a, scale);
    }
  }

  // acc += the next `slabs` slabs of the ring, at least one.
  __device__ __forceinline__ void run(float (&acc)[TM / 2], int slabs) {
    Fragment a, b;
    float2 scale, other;
    if constexpr (LEAN) {
#pragma unroll 1
      for (int i = 0; i < slabs; i++) {
        this->template fetch<0>(a, scale);
        whole<0>(acc, a, scale);
        if constexpr (GROUPS == 2) {
          this->template fetch<GROUPS - 1>(a, scale);
          whole<GROUPS - 1>(acc, a, scale);
        }
      }
    } else {
      this->template fetch<0>(a, scale);
      multiply<0, 0, 0>(a);
      if constexpr (DEPTH == 2) multiply<0, 1, 1>(a);
      int left = slabs * GROUPS;
      for (; left > 2; left -= 2) {
        step<0, 0>(acc, a, scale, b, other);
        step<GROUPS - 1, PIECES>(acc, b, other, a, scale);
      }
      if (left == 2) {
        step<0, 0>(acc, a, scale, b, other);
        finish<PIECES>(acc, b, other);
      } else {
        finish<0>(acc, a, scale);
      }
    }
  }
};

// The same with one sum over all of K in the tensor core, for products that include their scale: TABLE, as vLLM sums it.
template <typename R, int TM>
struct Straight : R {
  static constexpr int STEPS = R::STEPS, GROUPS = 4 / STEPS;
  using Fragment = typename R::Fragment;

  __device__ __forceinline__ explicit Straight(const Ring &r) : R(r) {}

  template <int GROUP>
  __device__ __forceinline__ void multiply(float (&acc)[TM / 2], const Fragment &a) {
    const uint64_t b = this->template tokens<GROUP>(0);
    ptx::pin(acc);
    ptx::wgmma_fence();
#pragma unroll
    for (int s = 0; s < STEPS; s++) ptx::Wgmma<TM>::issue(acc, a[s], b + 2 * s, 1);
    ptx::wgmma_commit();
  }

  // Starts group GROUP with fragment a, then waits for the group before it.
  template <int GROUP>
  __device__ __forceinline__ void step(float (&acc)[TM / 2], Fragment &a) {
    float2 scale;
    this->template fetch<GROUP>(a, scale);
    multiply<GROUP>(acc, a);
    ptx::wgmma_wait<1>();
    if (GROUP == 0) this->release();
  }

  __device__ __forceinline__ void run(float (&acc)[TM / 2], int slabs) {
    Fragment a, b;
    float2 scale;
    this->template fetch<0>(a, scale);
    multiply<0>(acc, a);
    if (GROUPS == 2) {
      step<GROUPS - 1>(acc, b);
      for (int i = 1; i < slabs; i++) {
        step<0>(acc, a);
        step<GROUPS - 1>(acc, b);
      }
    } else {
      for (; slabs > 2; slabs -= 2) {
        step<0>(acc, b);
        step<0>(acc, a);
      }
      if (slabs == 2) step<0>(acc, b);
    }
    ptx::wgmma_wait<0>();
    ptx::pin(acc);
    this->release();
  }
};
