// The INT4 cache of keys and values: sizes and places. kernels/cuda/kvlayout.go draws it and is its twin.
#pragma once
#include <cstdint>

namespace kv {

constexpr int BLOCK = 64;  // tokens of a record

// A record holds 64 tokens of one sequence and KV head: key codes, value codes, key parameters, value parameters.
template <int D, int GROUP, bool AFFINE>
struct Record {
  static constexpr int GROUPS = D / GROUP;
  static constexpr int PARAMETER = AFFINE ? 4 : 1;  // FP16 scale and offset, or an E4M3 scale
  static constexpr int VALUES = BLOCK * D / 2;
  static constexpr int KEY_PARAMETERS = 2 * VALUES;
  static constexpr int VALUE_PARAMETERS = KEY_PARAMETERS + GROUPS * BLOCK * PARAMETER;
  static constexpr int BYTES = VALUE_PARAMETERS + GROUPS * BLOCK * PARAMETER;
  static_assert(BYTES % 16 == 0, "bulk copies move multiples of 16 bytes");
};

// The byte, from the start of the keys of a record, that holds channel d of a token in nibble d % 2.
template <int D>
__device__ __forceinline__ int key_byte(int token, int d) {
  return token * (D / 2) + 4 * (d % 32 / 8 * (D / 32) + d / 32) + d % 8 / 2;
}

// The same from the start of the values.
template <int D>
__device__ __forceinline__ int value_byte(int token, int d) {
  const int tile = token / 16, half = token % 16 / 8, t = token % 8 / 2, g = d % 32 / 4;
  return tile * (8 * D) + d / 64 * 512 + (4 * g + t) * 16 + d % 64 / 32 * 8 + half * 4 + token % 2 * 2 + d % 4 / 2;
}

}  // namespace kv
