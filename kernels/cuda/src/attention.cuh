// What the parts of a prefill attention kernel share: the argument, the order of the work, and the online softmax of one warpgroup.
#pragma once
#include <cstdint>
#include <cuda_bf16.h>

#include "ptx.cuh"

namespace attention {

constexpr int ROWS = 64;                        // query rows of a warpgroup: M of wgmma
constexpr int KEYS = 128;                       // keys of a tile
constexpr float LOG2_448 = 8.807354922057604f;  // probabilities are E4M3 of 448 exp2(score - maximum)
constexpr float NOTHING = -1e30f;               // maximum of no score: finite, so that differences are not NaN
constexpr float SMALLEST = 0x1p-126f;           // smallest scale of a group

// One call. Query i sees the keys j with j <= i + lk - lq if causal, j > i + lk - lq - window if window > 0, and a set bit of the mask.
struct Argument {
  const __nv_bfloat16 *q;        // (batch, lq, heads, D)
  const uint8_t *k, *v;          // codes in tiles: attention_quantize.cu; or k the records of an INT4 cache, (batch kv_heads, capacity): kvcache.cuh
  const float *k_scale;          // (batch kv_heads, tiles, 4): of the keys {8i + 2t, 8i + 2t + 1} of a tile
  const float *v_scale;          // (batch kv_heads, D)
  const float *k_mean, *v_mean;  // (batch kv_heads, D): what was taken from the keys and the values, or null
  const uint32_t *mask;          // (batch heads, blocks of 64 rows, words), bit j for key tile j; SPARSE kernels only
  __nv_bfloat16 *o;              // (batch, lq, heads, D)
  float *lse;                    // (batch, lq, heads): ln of the sum of exp(score), or null
  int batch, heads, kv_heads, lq, lk, tiles, words, window, causal;
  int sharing, chunks;  // query heads of a KV head; blocks of 64 rows of a head
  float scale;  // of the scores
  float limit;   // largest code of Q
  float turned;  // factor of a Q that a Hadamard matrix has turned, or 0: it is left as it is; not with a cache

  // Only with a cache (attention_cache.cu), where k_mean and v_mean are (kv_heads, D):
  int capacity;            // records of a sequence and KV head
  const float *key_scale;  // (kv_heads, D): what keys were multiplied by, and queries are divided by; or null
};

// Of numbers that are not negative, for which a division is half as long.
__device__ __forceinline__ int quotient(int a, int b) { return static_cast<unsigned>(a) / static_cast<unsigned>(b); }

// What a block does at a time: units of 64 query rows of one KV head, and the key tiles they see, last to first. All query heads of a KV head share its
// keys, so a head's last rows and the next head's first go together, and no warpgroup idles where 64 rows do not fill a block:
//
//   unit        0    1    2    3    4    5   ...       with 4 query heads on a KV head, three units a block
//   rows       0..  0..  0..  0..  64.. 64..           rows first, heads within: units of a block see nearly the same keys
//   head        0    1    2    3    0    1
//
// Without a mask SPARSE is false: looking for one takes registers that the kernels do not have.
template <bool SPARSE>
struct Item {
  int sequence, shared;  // shared: KV head, of (batch kv_heads)
  int unit, units;       // first unit, and how many
  int first, tile;

  // Long items come first, so that blocks end together.
  __device__ __forceinline__ Item(const Argument &a, int index, int most) {
    const int pairs = a.batch * a.kv_heads, all = a.chunks * a.sharing, items = (all + most - 1) / most;
    unit = (items - 1 - quotient(index, pairs)) * most, units = min(most, all - unit);
    shared = index - quotient(index, pairs) * pairs, sequence = quotient(shared, a.kv_heads);
    const int offset = a.lk - a.lq, last = unit + units - 1;
    const int end = a.causal ? min(a.lk, row(a, last) + ROWS + offset) : a.lk;
    first = a.window > 0 ? max(0, row(a, unit) + offset - a.window + 1) / KEYS : 0;
    tile = (end + KEYS - 1) / KEYS;
    next(a);
  }

  // First row and head of a unit. Units that do not exist have rows beyond the last.
  __device__ __forceinline__ int row(const Argument &a, int u) const { return quotient(u, a.sharing) * ROWS; }
  __device__ __forceinline__ int head(const Argument &a, int u) const { return (shared - sequence * a.kv_heads) * a.sharing + u - quotient(u, a.sharing) * a.sharing; }

  __device__ __forceinline__ bool more() const { return tile >= first; }

  // Whether unit u looks at the tile at all.
  __device__ __forceinline__ bool wants(const Argument &a, int u) const {
    if (!SPARSE) return true;
    const uint32_t *mask = a.mask + ((size_t(sequence) * a.heads + head(a, u)) * a.chunks + quotient(u, a.sharing)) * a.words;
    return u < unit + units && mask[tile / 32] >> tile % 32 & 1;
  }

  __device__ __forceinline__ void next(const Argument &a) {
    for (tile--; SPARSE && tile >= first; tile--)
      for (int u = unit; u < unit + units; u++)
        if (wants(a, u)) return;
  }

  static __device__ __forceinline__ int count(const Argument &a, int most) {
    return (a.chunks * a.sharing + most - 1) / most * a.batch * a.kv_heads;
  }
};

// Largest and sum over the four lanes that hold a row.
__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
  return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(~0u, x, 1);
  return x + __shfl_xor_sync(~0u, x, 2);
}

// Softmax of rows g and g + 8 of a warp, in base 2. Element 4b + 2r + e of a tile's 64 is row g + 8r, key 8b + 2t + e of lane 4g + t.
struct Softmax {
  float top[2] = {NOTHING, NOTHING};  // largest score so far
  float sum[2] = {0, 0};              // of this lane's keys: 448 exp2(score - top)
  float fade[2];                      // what the last tile's maximum made of older sums
  float factor[2];                    // score = factor * product; not zero, as masked products are -inf

  // Takes the tile's maximum.
  __device__ __forceinline__ void raise(const float (&x)[64]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float some[4];  // four chains, for their latency
#pragma unroll
      for (int c = 0; c < 4; c++) {
        some[c] = fmaxf(x[4 * c + 2 * r], x[4 * c + 2 * r + 1]);
#pragma unroll
        for (int b = c + 4; b < 16; b += 4) some[c] = fmaxf(some[c], fmaxf(x[4 * b + 2 * r], x[4 * b + 2 * r + 1]));
      }
      const float largest = fmaxf(fmaxf(some[0], some[1]), fmaxf(some[2], some[3]));
      const float now = fmaxf(top[r], quad_max(largest * factor[r]));
      fade[r] = ptx::exp2_approx(top[r] - now);
      top[r] = now;
    }
  }

  // Turns products into probabilities, packed as the A fragments of the four wgmmas over this tile's keys, 32 keys at a time: registers are short.
  __device__ __forceinline__ void probabilities(float (&x)[64], uint32_t (&p)[4][4]) {
    const float shift[2] = {LOG2_448 - top[0], LOG2_448 - top[1]};
    float sums[2][2] = {};
#pragma unroll
    for (int step = 0; step < 4; step++) {
      float *const y = x + 16 * step;
#pragma unroll
      for (int i = 0; i < 16; i++) {
        const int r = i / 2 % 2;
        y[i] = ptx::exp2_approx(fmaf(y[i], factor[r], shift[r]));
        sums[r][i % 2] += y[i];
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float *pair = y + 8 * (i / 2) + 2 * (i % 2);
        p[step][i] = ptx::e4m3_of_floats(pair[0], pair[1]) | ptx::e4m3_of_floats(pair[4], pair[5]) << 16;
      }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) sum[r] = fmaf(sum[r], fade[r], sums[r][0] + sums[r][1]);
  }
};

}  // namespace attention
