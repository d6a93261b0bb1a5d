// What prefill attention does to keys and values beforehand (attention.cu rounds its queries itself): statistics over the tokens of a sequence, then
// codes in tiles that one bulk copy loads and wgmma reads.
//
//   K  codes of k - mean, turned or not (attention_codes.cuh), (tiles, 128 keys, D), rows of D bytes with 16-byte chunks swizzled as chunk_at says; one scale for the keys
//      {8i + 2t, 8i + 2t + 1} of a tile, t = 0..3: those that one lane of a score fragment holds
//   V  E4M3 of (v - mean) / scale, (tiles, D, 128 keys), rows swizzled as for D = 128; one scale a channel. Keys are permuted within 16 so that the
//      fragment of the scores is the A fragment of the output's product: place 4t + i holds key 2t + i, or 8 + 2t + i - 2 for i > 1
#include "attention.cuh"
#include "attention_codes.cuh"

namespace attention {

constexpr int CHUNK = 512;  // tokens that a block of `statistics` goes over

struct Quantize {
  const __nv_bfloat16 *k, *v;    // (batch, lk, kv_heads, D)
  float *partial;                // (batch kv_heads, chunks, 4, D): sum of k, sum of v, smallest and largest v
  uint8_t *k_codes, *v_codes;
  float *k_scale, *v_scale;      // (batch kv_heads, tiles, 4), (batch kv_heads, D)
  float *k_mean, *v_mean;        // (batch kv_heads, D), or null to take nothing away
  int batch, kv_heads, lk, tiles, chunks, e4m3;
  float limit;   // largest code of K
  float turned;  // factor of a K that a Hadamard matrix has turned, or 0: it is left as it is
};

__device__ __forceinline__ void widen(uint4 w, float (&x)[8]) {
  const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int j = 0; j < 4; j++) x[2 * j] = __uint_as_float(words[j] << 16), x[2 * j + 1] = __uint_as_float(words[j] & 0xFFFF0000);
}

// Grid (chunks, batch kv_heads), 256 threads: thread = (token lane, 8 channels).
template <int D>
__device__ void statistics(const Quantize &a) {
  constexpr int LANES = 256 / (D / 8);  // tokens at a time
  const int c = threadIdx.x % (D / 8), lane = threadIdx.x / (D / 8), pair = blockIdx.y, chunk = blockIdx.x;
  const size_t stride = size_t(a.kv_heads) * D;
  const size_t base = (size_t(pair / a.kv_heads) * a.lk) * stride + pair % a.kv_heads * D + c * 8;
  float k_sum[8] = {}, v_sum[8] = {}, low[8], high[8];
#pragma unroll
  for (int i = 0; i < 8; i++) low[i] = INFINITY, high[i] = -INFINITY;
  ptx::wait_for_predecessor();
  const int end = min(a.lk, (chunk + 1) * CHUNK);
#pragma unroll 4
  for (int j = chunk * CHUNK + lane; j < end; j += LANES) {
    float k[8], v[8];
    widen(*reinterpret_cast<const uint4 *>(a.k + base + j * stride), k);
    widen(*reinterpret_cast<const uint4 *>(a.v + base + j * stride), v);
#pragma unroll
    for (int i = 0; i < 8; i++) k_sum[i] += k[i], v_sum[i] += v[i], low[i] = fminf(low[i], v[i]), high[i] = fmaxf(high[i], v[i]);
  }
  __shared__ float s[LANES][4][D];
#pragma unroll
  for (int i = 0; i < 8; i++) s[lane][0][8 * c + i] = k_sum[i], s[lane][1][8 * c + i] = v_sum[i], s[lane][2][8 * c + i] = low[i], s[lane][3][8 * c + i] = high[i];
  __syncthreads();
  for (int at = threadIdx.x; at < 4 * D; at += 256) {
    const int what = at / D, channel = at % D;
    float x = s[0][what][channel];
    for (int l = 1; l < LANES; l++) {
      const float y = s[l][what][channel];
      x = what < 2 ? x + y : what == 2 ? fminf(x, y) : fmaxf(x, y);
    }
    a.partial[(size_t(pair) * a.chunks + chunk) * 4 * D + at] = x;
  }
  ptx::launch_dependents();
}

// Grid (tiles, batch kv_heads), 256 threads.
template <int D>
__device__ void quantize(const Quantize &a) {
  const int pair = blockIdx.y, tile = blockIdx.x, thread = threadIdx.x;
  __shared__ float k_mean[D], v_mean[D], v_inverse[D], largest[KEYS], inverse[4];
  ptx::wait_for_predecessor();
  if (thread < D) {
    const float *from = a.partial + size_t(pair) * a.chunks * 4 * D + thread;
    float k_sum = 0, v_sum = 0, low = INFINITY, high = -INFINITY;
    for (int i = 0; i < a.chunks; i++, from += 4 * D) k_sum += from[0], v_sum += from[D], low = fminf(low, from[2 * D]), high = fmaxf(high, from[3 * D]);
    const float mk = a.k_mean ? __fdiv_rn(k_sum, a.lk) : 0, mv = a.v_mean ? __fdiv_rn(v_sum, a.lk) : 0;
    const float scale = fmaxf(__fdiv_rn(fmaxf(high - mv, mv - low), 448), SMALLEST);
    k_mean[thread] = mk, v_mean[thread] = mv, v_inverse[thread] = __fdiv_rn(1, scale);
    if (tile == 0) {
      a.v_scale[pair * D + thread] = scale;
      if (a.k_mean) a.k_mean[pair * D + thread] = mk;
      if (a.v_mean) a.v_mean[pair * D + thread] = mv;
    }
  }
  const size_t stride = size_t(a.kv_heads) * D, base = (size_t(pair / a.kv_heads) * a.lk) * stride + pair % a.kv_heads * D;
  const int row = thread / 2, half = thread % 2, key = tile * KEYS + row;
  uint4 raw[D / 16];
#pragma unroll
  for (int i = 0; i < D / 16; i++)
    raw[i] = key < a.lk ? reinterpret_cast<const uint4 *>(a.k + base + key * stride + half * (D / 2))[i] : make_uint4(0, 0, 0, 0);
  __syncthreads();
  float x[D / 2], top = 0;
#pragma unroll
  for (int i = 0; i < D / 16; i++) {
    float y[8];
    widen(raw[i], y);
#pragma unroll
    for (int j = 0; j < 8; j++) x[8 * i + j] = key < a.lk ? y[j] - k_mean[half * (D / 2) + 8 * i + j] : 0;
  }
  if (a.turned != 0) turn_row<D / 2, 2>(x, half, a.turned);
#pragma unroll
  for (int i = 0; i < D / 2; i++) top = fmaxf(top, fabsf(x[i]));
  top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
  if (half == 0) largest[row] = top;
  __syncthreads();
  if (thread < 4) {
    float m = 0;
    for (int i = 0; i < KEYS / 8; i++) m = fmaxf(m, fmaxf(largest[8 * i + 2 * thread], largest[8 * i + 2 * thread + 1]));
    const float scale = fmaxf(__fdiv_rn(m, a.limit), SMALLEST);
    inverse[thread] = __fdiv_rn(1, scale);
    a.k_scale[(size_t(pair) * a.tiles + tile) * 4 + thread] = scale;
  }
  __syncthreads();
  const float factor = inverse[row % 8 / 2];
  uint8_t *codes = a.k_codes + (size_t(pair) * a.tiles + tile) * KEYS * D;
#pragma unroll
  for (int c = 0; c < D / 32; c++) {
    uint32_t w[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const float *y = x + 16 * c + 4 * j;
      w[j] = a.e4m3 ? pack_e4m3(y[0] * factor, y[1] * factor, y[2] * factor, y[3] * factor)
                    : pack_int8(y[0] * factor, y[1] * factor, y[2] * factor, y[3] * factor);
    }
    const int chunk = half * (D / 32) + c;
    *reinterpret_cast<uint4 *>(codes + chunk_at<D>(row, chunk)) = make_uint4(w[0], w[1], w[2], w[3]);
  }
  // A lane takes the four keys of one word of V^T, and 16 channels (8 for D = 64) of its warp.
  const int lane = thread % 32, warp = thread / 32, t = lane % 4;
  uint8_t *turned = a.v_codes + (size_t(pair) * a.tiles + tile) * KEYS * D;
#pragma unroll
  for (int c = warp * (D / 64); c < (warp + 1) * (D / 64); c++) {
    float v[4][8];
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int token = tile * KEYS + lane / 4 * 16 + 2 * t + i % 2 + 8 * (i / 2);
      widen(token < a.lk ? *reinterpret_cast<const uint4 *>(a.v + base + token * stride + 8 * c) : make_uint4(0, 0, 0, 0), v[i]);
      if (token < a.lk) {
#pragma unroll
        for (int j = 0; j < 8; j++) v[i][j] = (v[i][j] - v_mean[8 * c + j]) * v_inverse[8 * c + j];
      }
    }
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const uint32_t word = pack_e4m3(v[0][j], v[1][j], v[2][j], v[3][j]);
      const int channel = 8 * c + j;
      *reinterpret_cast<uint32_t *>(turned + chunk_at<KEYS>(channel, lane / 4) + 4 * t) = word;
    }
  }
  ptx::launch_dependents();
}

}  // namespace attention

extern "C" __global__ void __launch_bounds__(256) attention_statistics_64(const __grid_constant__ attention::Quantize a) { attention::statistics<64>(a); }
extern "C" __global__ void __launch_bounds__(256) attention_statistics_128(const __grid_constant__ attention::Quantize a) { attention::statistics<128>(a); }
extern "C" __global__ void __launch_bounds__(256) attention_quantize_64(const __grid_constant__ attention::Quantize a) { attention::quantize<64>(a); }
extern "C" __global__ void __launch_bounds__(256) attention_quantize_128(const __grid_constant__ attention::Quantize a) { attention::quantize<128>(a); }
