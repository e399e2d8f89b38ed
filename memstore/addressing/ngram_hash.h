// The n-gram hash, step by step, for host and device alike: the window, the mix, the modulo.
//
// Everything that turns ids into row ids is one of these functions, so a CPU kernel and a GPU
// kernel cannot disagree. Pure functions over plain values; nothing host-only is included. For one
// position:
//
//   uint32_t blocked = 0;
//   for (k = 0; k < max_order; ++k) window[k] = WindowStep(entry_at(position - k), pad, &blocked);
//   for each order n: mix = XorMix(window, multipliers, n);
//     for each head: row = Modulo(mix, reciprocal) + offset;
//
// where entry_at(position) is its own id or, if it is dead, kBlockedEntry; and entry_at(an older
// one) is its id or, if that was dead, a reset token or before the start, kBlockedEntry.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ENGRAM_HOST_DEVICE __host__ __device__
#else
#define ENGRAM_HOST_DEVICE
#endif

namespace engram {

// Stands for a position that nothing may look at or past. Ids are below 2^31.
inline constexpr uint32_t kBlockedEntry = 0xFFFFFFFFu;

// The id that is hashed for the next older position of a window, newest first. Blocking is sticky:
// from the first blocked entry on, the pad. `blocked` begins as 0.
ENGRAM_HOST_DEVICE constexpr uint32_t WindowStep(uint32_t entry, uint32_t pad, uint32_t* blocked) {
  *blocked |= entry == kBlockedEntry;
  return *blocked != 0 ? pad : entry;
}

// One term of an XOR family's mix. Two's complement throughout: ids sign-extended to 64 bits and
// products that overflow wrap.
ENGRAM_HOST_DEVICE constexpr uint64_t XorStep(uint64_t mix, uint64_t id, uint64_t multiplier) {
  return mix ^ (id * multiplier);
}

ENGRAM_HOST_DEVICE constexpr uint64_t XorMix(const uint32_t* window, const uint64_t* multipliers,
                                             uint32_t order) {
  uint64_t mix = 0;
  for (uint32_t k = 0; k < order; ++k) mix = XorStep(mix, window[k], multipliers[k]);
  return mix;
}

// One term of a polynomial family's sum; coefficient d is radix^d mod the column's modulus, so
// coefficient 0 is 1. The scheme's limits keep the sum below 2^63.
ENGRAM_HOST_DEVICE constexpr uint64_t PolynomialStep(uint64_t sum, uint64_t id,
                                                     uint64_t coefficient) {
  return sum + id * coefficient;
}

// A modulus and floor((2^64 - 1) / modulus).
struct Reciprocal {
  uint64_t modulus = 1;
  uint64_t inverse = UINT64_MAX;
};

// `modulus` is in 1..2^63.
ENGRAM_HOST_DEVICE constexpr Reciprocal MakeReciprocal(uint64_t modulus) {
  return {modulus, UINT64_MAX / modulus};
}

ENGRAM_HOST_DEVICE constexpr uint64_t MultiplyHigh(uint64_t a, uint64_t b) {
#ifdef __CUDA_ARCH__
  return __umul64hi(a, b);
#else
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
}

// value mod modulus, for every 64-bit value and every modulus m in 1..2^63. With i = the inverse,
// 2^64 - m <= m*i <= 2^64 - 1, so value/m - value*i/2^64 = value*(2^64 - m*i)/(m*2^64) is in (0,
// 1): the estimated quotient is right or one too small, and one correction is enough.
ENGRAM_HOST_DEVICE constexpr uint64_t Modulo(uint64_t value, const Reciprocal& reciprocal) {
  const uint64_t quotient = MultiplyHigh(value, reciprocal.inverse);
  const uint64_t rest = value - quotient * reciprocal.modulus;
  return rest >= reciprocal.modulus ? rest - reciprocal.modulus : rest;
}

// The same of a signed value, never negative: what hashes that admit negative ids use.
ENGRAM_HOST_DEVICE constexpr uint64_t FlooredModulo(int64_t value, const Reciprocal& reciprocal) {
  if (value >= 0) return Modulo(static_cast<uint64_t>(value), reciprocal);
  // -(value + 1) = ~value cannot overflow; floored: (-1 - v) mod m = m - 1 - (v mod m).
  return reciprocal.modulus - 1 - Modulo(~static_cast<uint64_t>(value), reciprocal);
}

}  // namespace engram
