// K2: compressed-tensors codes and scales -> units in fragment order (kernels/cuda/doc.go draws both; pack.go is the twin).
#include <cuda_bf16.h>

#include "layout.cuh"
#include "ptx.cuh"

struct Repack {
  const uint32_t *codes;  // (n, k/8), offset binary, lowest nibble first
  const uint16_t *scales; // (n, k/group) BF16
  uint8_t *units;         // [blocks][slabs]
  float *channel;         // [64 blocks]: 4096 * chan
  uint8_t *eighths;       // (n, k/group): e4m3(s8/8)
  uint32_t *flags;        // bit 0: there is a code -8
  int n, k, group, slabs, blocks;
  int coding;             // 0 SIGNED7, 1 SIGNED8, 2 TABLE (expand.cuh)
};

namespace {

__device__ __forceinline__ float value_of_e4m3(uint32_t code) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(ptx::halves_of_e4m3(code))));
}

// Nibble i of eight codes, as q.
__device__ __forceinline__ int code(uint32_t word, int i) { return int(word >> (4 * i) & 15) - 8; }

}  // namespace

// A thread a word: is there a -8 anywhere?
extern "C" __global__ void repack_scan(const __grid_constant__ Repack p) {
  const size_t words = size_t(p.n) * (p.k / 8);
  bool found = false;
  for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < words; i += size_t(gridDim.x) * blockDim.x) {
    const uint32_t w = p.codes[i];
    found |= ((w - 0x11111111u) & ~w & 0x88888888u) != 0;  // a zero nibble
  }
  if (__syncthreads_or(found) && threadIdx.x == 0) atomicOr(p.flags, 1u);
}

// A thread a channel: chan = max(max_g s / 448, 1/(448*512)), s8 = e4m3(s / chan), and e4m3(s8 / 8) (packer.Int4Weight.Split).
extern "C" __global__ void repack_scales(const __grid_constant__ Repack p) {
  const int n = blockIdx.x * blockDim.x + threadIdx.x, groups = p.k / p.group;
  if (n >= p.blocks * 64) return;
  if (n >= p.n) {
    p.channel[n] = 0;
    return;
  }
  float top = 0;
  for (int g = 0; g < groups; g++) top = fmaxf(top, __uint_as_float(uint32_t(p.scales[size_t(n) * groups + g]) << 16));
  const float chan = fmaxf(top / 448, float(1.0 / (448 * 512)));
  p.channel[n] = chan * 4096;
  for (int g = 0; g < groups; g++) {
    const size_t i = size_t(n) * groups + g;
    const float s8 = value_of_e4m3(ptx::e4m3_of_floats(__uint_as_float(uint32_t(p.scales[i]) << 16) / chan, 0));
    p.eighths[i] = ptx::e4m3_of_floats(s8 / 8, 0);
  }
}

// A block a unit, a thread a thread of the warpgroup that will read it.
extern "C" __global__ void __launch_bounds__(128) repack_units(const __grid_constant__ Repack p) {
  const int slab = blockIdx.x, block = blockIdx.y, thread = threadIdx.x;
  const int warp = thread / 32, g = thread % 32 / 4, t = thread % 4, groups = 128 / p.group;
  uint8_t *unit = p.units + (size_t(block) * p.slabs + slab) * layout::unit_bytes(groups);
  uint32_t words[8];
#pragma unroll
  for (int step = 0; step < 4; step++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int n = block * 64 + 16 * warp + g + 8 * h, k = slab * 128 + 32 * step + 4 * t;
      uint32_t w = 0;
      if (n < p.n && k < p.k) {
        const uint32_t *row = p.codes + size_t(n) * (p.k / 8);
        const uint32_t a = row[k / 8] >> (k % 8 * 4), b = row[k / 8 + 2] >> (k % 8 * 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const int qa = code(a, i), qb = code(b, i);
          const int less = p.coding > 0;
          const uint32_t ma = qa < 0 ? -qa - less : qa, mb = qb < 0 ? -qb - less : qb, sa = qa < 0, sb = qb < 0;
          if (p.coding == 2) w |= ma << (4 * i) | sa << (8 * i + 7) | mb << (16 + 4 * i) | sb << (8 * i + 3);
          else w |= ma << (8 * i) | sa << (8 * i + 7) | mb << (8 * i + 4) | sb << ((8 * i + 11) % 32);
        }
      }
      words[2 * step + h] = w;
    }
  }
  uint4 *to = reinterpret_cast<uint4 *>(unit);
  to[thread] = make_uint4(words[0], words[1], words[2], words[3]);
  to[128 + thread] = make_uint4(words[4], words[5], words[6], words[7]);
  for (int i = thread; i < 64 * groups; i += 128) {  // [warp][g][group][row g, row g+8]
    const int h = i % 2, group = i / 2 % groups, row = i / (2 * groups);
    const int n = block * 64 + row / 8 * 16 + row % 8 + 8 * h, at = slab * groups + group;
    unit[layout::CODE_BYTES + i] = n < p.n && at < p.k / p.group ? p.eighths[size_t(n) * (p.k / p.group) + at] : 0;
  }
}
