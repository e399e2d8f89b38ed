#include "memstore/addressing/primes.h"

#include <array>

namespace engram {
namespace {

// As witnesses of Miller and Rabin these decide every n below 2^64 (Sorenson and Webster, 2015).
constexpr std::array<uint64_t, 12> kWitnesses = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};

uint64_t MultiplyModulo(uint64_t a, uint64_t b, uint64_t modulus) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b % modulus);
}

uint64_t PowerModulo(uint64_t base, uint64_t exponent, uint64_t modulus) {
  uint64_t power = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) power = MultiplyModulo(power, base, modulus);
    base = MultiplyModulo(base, base, modulus);
  }
  return power;
}

// Whether `witness` shows that the odd n = odd_part * 2^twos + 1 is composite.
bool ShowsComposite(uint64_t witness, uint64_t n, uint64_t odd_part, int twos) {
  uint64_t x = PowerModulo(witness, odd_part, n);
  if (x == 1 || x == n - 1) return false;
  for (int i = 1; i < twos; ++i) {
    x = MultiplyModulo(x, x, n);
    if (x == n - 1) return false;
  }
  return true;
}

}  // namespace

bool IsPrime(uint64_t n) {
  if (n < 2) return false;
  for (const uint64_t p : kWitnesses) {
    if (n % p == 0) return n == p;
  }
  const int twos = __builtin_ctzll(n - 1);
  for (const uint64_t witness : kWitnesses) {
    if (ShowsComposite(witness, n, (n - 1) >> twos, twos)) return false;
  }
  return true;
}

uint64_t NextPrimeAbove(uint64_t n) {
  do {
    ++n;
  } while (!IsPrime(n));
  return n;
}

}  // namespace engram
