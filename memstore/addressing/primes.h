// Primes, for the derivation of moduli when a table is packed. Pure functions.
#pragma once

#include <cstdint>

namespace engram {

// Exact for every 64-bit number. Cost: about 10 us.
bool IsPrime(uint64_t n);
// The smallest prime above n; n is below 2^63.
uint64_t NextPrimeAbove(uint64_t n);

}  // namespace engram
