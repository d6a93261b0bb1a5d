// What the hardware does and how fast: one wgmma on given bytes, the tensor cores' rate, the memory's.
#include "wgmma.cuh"

struct Fragments {
  const uint8_t *a;  // [batch][64][32] E4M3
  const uint8_t *b;  // [batch][8][32] E4M3
  float *d;          // [batch][64][8]
};

// One m64n8k32 a block, operands placed as doc.go says.
extern "C" __global__ void __launch_bounds__(128) probe_wgmma(const __grid_constant__ Fragments p) {
  __shared__ __align__(1024) uint8_t tile[1024];
  const int thread = threadIdx.x, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
  for (int i = thread; i < 1024; i += 128) tile[i] = 0;
  __syncthreads();
  for (int i = thread; i < 256; i += 128) {
    const int row = i / 32, k = i % 32;
    tile[row * 128 + ((k / 16 ^ row) << 4) + k % 16] = p.b[blockIdx.x * 256 + i];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  uint32_t a[4];
  for (int r = 0; r < 4; r++) {
    const int row = 16 * warp + g + r % 2 * 8, k = r / 2 * 16 + 4 * t;
    a[r] = *reinterpret_cast<const uint32_t *>(p.a + (size_t(blockIdx.x) * 64 + row) * 32 + k);
  }
  float d[4] = {0, 0, 0, 0};
  ptx::pin(d);
  ptx::wgmma_fence();
  ptx::Wgmma<8>::issue(d, a, ptx::wgmma_descriptor(uint32_t(__cvta_generic_to_shared(tile))), 0);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::pin(d);
  for (int i = 0; i < 4; i++) p.d[(size_t(blockIdx.x) * 64 + 16 * warp + g + i / 2 * 8) * 8 + 2 * t + i % 2] = d[i];
}

struct Rate {
  const uint4 *data;  // 16 KB of E4M3 and 2 KB of fragments
  long long *clocks;  // [blocks]
  float *sink;
  int rounds;  // of eight wgmmas
};

namespace {

// Wgmmas with A in registers, two groups of four in flight, as the kernels issue them.
template <int N>
__device__ __forceinline__ void rate(const Rate &p) {
  __shared__ __align__(1024) uint8_t tile[16384];
  for (int i = threadIdx.x; i < 1024; i += blockDim.x) reinterpret_cast<uint4 *>(tile)[i] = p.data[i];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t b = ptx::wgmma_descriptor(uint32_t(__cvta_generic_to_shared(tile)));
  uint32_t a[4][4];
  for (int s = 0; s < 4; s++) {
    const uint4 v = p.data[1024 + (threadIdx.x + 32 * s) % 128];
    a[s][0] = v.x, a[s][1] = v.y, a[s][2] = v.z, a[s][3] = v.w;
  }
  float d[2][N / 2];
  for (int i = 0; i < N / 2; i++) d[0][i] = d[1][i] = 0;
  const long long start = clock64();
#pragma unroll 1
  for (int r = 0; r < p.rounds; r++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      ptx::wgmma_wait<1>();
      ptx::pin(d[h]);
      ptx::wgmma_fence();
#pragma unroll
      for (int s = 0; s < 4; s++) ptx::Wgmma<N>::issue(d[h], a[s], b + 2 * s, 1);
      ptx::wgmma_commit();
    }
  }
  ptx::wgmma_wait<0>();
  ptx::pin(d[0]);
  ptx::pin(d[1]);
  if (threadIdx.x == 0) p.clocks[blockIdx.x] = clock64() - start;
  float sum = 0;
  for (int i = 0; i < N / 2; i++) sum += d[0][i] + d[1][i];
  if (sum == 12345.678f) *p.sink = sum;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(256, 1) probe_rate_n16(const __grid_constant__ Rate p) { rate<16>(p); }
extern "C" __global__ void __launch_bounds__(256, 1) probe_rate_n32(const __grid_constant__ Rate p) { rate<32>(p); }
extern "C" __global__ void __launch_bounds__(256, 1) probe_rate_n64(const __grid_constant__ Rate p) { rate<64>(p); }
extern "C" __global__ void __launch_bounds__(256, 1) probe_rate_n128(const __grid_constant__ Rate p) { rate<128>(p); }

struct Read {
  const uint4 *data;
  uint32_t *sink;
  long long count;  // of 16 bytes
};

// Reads every byte once.
extern "C" __global__ void __launch_bounds__(512) probe_read(const __grid_constant__ Read p) {
  uint32_t sum = 0;
  const long long stride = (long long)gridDim.x * blockDim.x;
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  for (; i + 7 * stride < p.count; i += 8 * stride) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; j++) v[j] = __ldcs(p.data + i + j * stride);
#pragma unroll
    for (int j = 0; j < 8; j++) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  for (; i < p.count; i += stride) sum ^= p.data[i].x;
  if (sum == 0x12345678) *p.sink = sum;
}
