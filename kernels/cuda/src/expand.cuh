// INT4 codes -> E4M3 bytes in registers.
//
// The bytes 0x00..0x0F of E4M3 are u * 2^-9 (its subnormals and first binade have one step) and 0x80..0x8F their negatives, so
// a sign and a magnitude are an E4M3 number as they stand. A word holds eight codes: a_0..a_3 of one register, b_0..b_3 of another.
//
//   byte i    bit 7: sign a_i   6..4: magnitude b_i   3: sign b_{i-1 mod 4}   2..0: magnitude a_i
//
// Masked, the word is the first register; rotated right by four and masked, the second. The magnitude of a negative code is
// |q| in a tensor without -8 (SIGNED7: three instructions for eight codes), and |q| - 1 otherwise (SIGNED8: seven).
//
// TABLE multiplies by the group scale and rounds to E4M3, as vLLM's and FireQ's kernels do: a code selects one of the products, eight for each
// sign, in eleven instructions for eight codes. Its words have the magnitudes (|q| - 1 of a negative code) where PRMT wants selectors:
//
//   bits 4i..4i+2: magnitude a_i     16+4i..16+4i+2: magnitude b_i     8i+7: sign a_i     8i+3: sign b_i
#pragma once
#include "ptx.cuh"

enum class Codes { SIGNED7, SIGNED8, TABLE };

namespace expand {

constexpr uint32_t SIGN = 0x80808080u, FIELDS = 0x87878787u;

// Eight codes of SIGNED7 or SIGNED8, times 2^-9.
template <Codes C>
__device__ __forceinline__ void small(uint32_t word, uint32_t &a, uint32_t &b) {
  a = word & FIELDS;
  b = __funnelshift_r(word, word, 4) & FIELDS;
  if (C != Codes::SIGNED7) {
    a += (a & SIGN) >> 7;  // |q| - 1 -> |q|: at most 8, so no byte overflows
    b += (b & SIGN) >> 7;
  }
}

// The products of a scale with 0..7 and with -1..-8, as E4M3.
struct Table {
  uint32_t positive[2], negative[2];
};

// From the scale as a half; products with up to 8 are exact in FP16, so that each is rounded once.
__device__ __forceinline__ Table table(uint32_t half_bits) {
  const uint32_t s = ptx::permute(half_bits, 0, 0x1010);
  uint32_t pairs[4];
  constexpr uint32_t FACTORS[4] = {0xC000BC00u, 0xC400C200u, 0xC600C500u, 0xC800C700u};  // halves: -1 -2, -3 -4, -5 -6, -7 -8
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(s), "r"(FACTORS[i]));
    pairs[i] = ptx::e4m3_of_halves(product);
  }
  Table t;
  t.negative[0] = ptx::permute(pairs[0], pairs[1], 0x5410);
  t.negative[1] = ptx::permute(pairs[2], pairs[3], 0x5410);
  t.positive[0] = (t.negative[0] << 8) & ~SIGN;
  t.positive[1] = __funnelshift_l(t.negative[0], t.negative[1], 8) & ~SIGN;
  return t;
}

// Eight codes of TABLE as their products.
__device__ __forceinline__ void products(uint32_t word, const Table &t, uint32_t &a, uint32_t &b) {
  const uint32_t select = word & 0x77777777u;
  const uint32_t minus_a = ptx::permute(word, 0, 0xBA98), minus_b = ptx::permute(word << 4, 0, 0xBA98);  // a byte's sign, eight times
  const uint32_t pa = ptx::permute(t.positive[0], t.positive[1], select), na = ptx::permute(t.negative[0], t.negative[1], select);
  const uint32_t pb = ptx::permute(t.positive[0], t.positive[1], select >> 16), nb = ptx::permute(t.negative[0], t.negative[1], select >> 16);
  a = (na & minus_a) | (pa & ~minus_a);
  b = (nb & minus_b) | (pb & ~minus_b);
}

}  // namespace expand
