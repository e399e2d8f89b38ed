// What numpy's default_rng(seed).integers(0, bound, n) draws, without numpy: SeedSequence, PCG64
// and Lemire's bounded draw. Families whose multipliers numpy drew are derived with it.
//
// One thread at a time. Never used when a table is served.
#pragma once

#include <cstdint>

namespace engram {

// numpy draws below this with 32-bit words, which is not done here.
inline constexpr uint64_t kMinNumpyBound = (uint64_t{1} << 32) + 1;

class NumpyRandom {
 public:
  explicit NumpyRandom(uint64_t seed);

  // The next 64 bits.
  uint64_t Next();
  // The next element of integers(0, bound), dtype int64; `bound` is at least kMinNumpyBound.
  uint64_t Below(uint64_t bound);

 private:
  unsigned __int128 state_ = 0;
  unsigned __int128 increment_ = 0;
};

}  // namespace engram
