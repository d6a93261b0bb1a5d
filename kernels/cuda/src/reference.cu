// K0: slow kernels that read like the formulas. They check the fast ones on the device, and compute what those do not take.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "layout.cuh"
#include "ptx.cuh"

namespace {

__device__ __forceinline__ double e4m3(uint32_t code) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(ptx::halves_of_e4m3(code))));
}

}  // namespace

struct Reference {
  const uint32_t *codes;   // (n, k/8) as stored
  const uint8_t *eighths;  // (n, k/group)
  const float *channel;    // [n]: 4096 chan
  const float *bias;       // [n] or null
  const uint8_t *x;        // [slabs][m_pad][128], swizzled
  const float *token;      // [m]
  double *y;               // (rows, columns)
  int k, group, m_pad, table;
  int rows, columns;                             // of y: the product at tokens row0 + i row_step ...
  int row0, row_step, column0, column_step;      // ... and channels column0 + j column_step
};

// y[i, j] = token * chan * sum_k x8 * w + bias in float64, from the stored codes; w = q * s8', or with `table` 8 e4m3(q s8'/8).
extern "C" __global__ void reference_w4a8(const __grid_constant__ Reference p) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x, i = blockIdx.y;
  if (j >= p.columns) return;
  const int m = p.row0 + i * p.row_step, n = p.column0 + j * p.column_step;
  double sum = 0;
  for (int k = 0; k < p.k; k++) {
    const int q = int(p.codes[size_t(n) * (p.k / 8) + k / 8] >> (k % 8 * 4) & 15) - 8;
    double w = q * e4m3(p.eighths[size_t(n) * (p.k / p.group) + k / p.group]);
    if (p.table) w = e4m3(ptx::e4m3_of_floats(float(w), 0));
    const uint8_t *slab = p.x + size_t(k / 128) * p.m_pad * layout::SLAB;
    sum += e4m3(slab[layout::activation_offset(m, k % 128 / 16) + k % 16]) * w;
  }
  p.y[size_t(i) * p.columns + j] = sum * (p.channel[n] / 512.0) * p.token[m] + (p.bias ? p.bias[n] : 0);
}

struct Product {
  const float *x, *w, *row, *token, *bias;  // (m, k), (n, k), [n] or null, [m] or null, [n] or null
  float *y;                                 // (m, n)
  int m, n, k;
};

// y = x w^T in FP32, k ascending, then times token and row, plus bias.
extern "C" __global__ void __launch_bounds__(256) reference_f32(const __grid_constant__ Product p) {
  __shared__ float xs[16][17], ws[16][17];
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const int n = blockIdx.x * 16 + tx, m = blockIdx.y * 16 + ty, wn = blockIdx.x * 16 + ty;
  float sum = 0;
  for (int k = 0; k < p.k; k += 16) {
    xs[ty][tx] = m < p.m && k + tx < p.k ? p.x[size_t(m) * p.k + k + tx] : 0;
    ws[ty][tx] = wn < p.n && k + tx < p.k ? p.w[size_t(wn) * p.k + k + tx] : 0;
    __syncthreads();
    const int count = min(16, p.k - k);
    for (int i = 0; i < count; i++) sum = fmaf(xs[ty][i], ws[tx][i], sum);
    __syncthreads();
  }
  if (m >= p.m || n >= p.n) return;
  if (p.row) sum *= p.row[n];
  if (p.token) sum *= p.token[m];
  p.y[size_t(m) * p.n + n] = p.bias ? sum + p.bias[n] : sum;
}

struct Round {
  float *x;      // (m, k), replaced by the values of its E4M3 codes
  float *token;  // [m]
  int m, k;
};

// Per-token E4M3 of any k, as values: quantize.cu for what the fast layout does not take.
extern "C" __global__ void __launch_bounds__(256) reference_round(const __grid_constant__ Round p) {
  __shared__ float tops[256];
  float *x = p.x + size_t(blockIdx.x) * p.k;
  float top = 0;
  for (int k = threadIdx.x; k < p.k; k += 256) top = fmaxf(top, fabsf(x[k]));
  tops[threadIdx.x] = top;
  __syncthreads();
  for (int i = 0; i < 256; i++) top = fmaxf(top, tops[i]);
  const float a = fmaxf(top / 448, float(1.0 / (448 * 512)));
  for (int k = threadIdx.x; k < p.k; k += 256) x[k] = float(e4m3(ptx::e4m3_of_floats(x[k] / a, 0)));
  if (threadIdx.x == 0) p.token[blockIdx.x] = a;
}

struct Attend {
  const float *q, *k, *v;  // (m, heads d), (m, kv d), (m, kv d)
  float *y;                // (m, heads d)
  float *scores;           // [heads][m][m]
  int m, heads, kv_heads, d, window;
  float scale;
};

// Causal attention of one sequence, a block a query and head.
extern "C" __global__ void __launch_bounds__(128) reference_attend(const __grid_constant__ Attend p) {
  __shared__ float scratch[128];
  const int i = blockIdx.x, h = blockIdx.y, kv = h / (p.heads / p.kv_heads);
  const int first = p.window > 0 ? max(0, i - p.window + 1) : 0;
  const float *q = p.q + (size_t(i) * p.heads + h) * p.d;
  float *s = p.scores + (size_t(h) * p.m + i) * p.m;
  float top = -INFINITY, nan = 0;
  for (int j = first + threadIdx.x; j <= i; j += 128) {
    const float *k = p.k + (size_t(j) * p.kv_heads + kv) * p.d;
    float sum = 0;
    for (int c = 0; c < p.d; c++) sum = fmaf(q[c], k[c], sum);
    s[j] = sum * p.scale;
    top = fmaxf(top, s[j]);
    if (isnan(s[j])) nan = s[j];
  }
  scratch[threadIdx.x] = isnan(nan) ? nan : top;
  __syncthreads();
  top = scratch[0];
  for (int t = 1; t < 128; t++) top = isnan(scratch[t]) || isnan(top) ? top + scratch[t] : fmaxf(top, scratch[t]);
  __syncthreads();
  float sum = 0;
  for (int j = first + threadIdx.x; j <= i; j += 128) {
    s[j] = expf(s[j] - top);
    sum += s[j];
  }
  scratch[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (int t = 0; t < 128; t++) sum += scratch[t];
  for (int c = threadIdx.x; c < p.d; c += 128) {
    float o = 0;
    for (int j = first; j <= i; j++) o = fmaf(s[j], p.v[(size_t(j) * p.kv_heads + kv) * p.d + c], o);
    p.y[(size_t(i) * p.heads + h) * p.d + c] = o / sum;
  }
}
