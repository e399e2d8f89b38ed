// The SplitMix64 generator's step and output function: a bijection that mixes 64 bits well.
#pragma once

#include <cstdint>

namespace engram {

inline constexpr uint64_t kGoldenGamma = 0x9E3779B97F4A7C15;

constexpr uint64_t SplitMix64Mix(uint64_t v) {
  v += kGoldenGamma;
  v = (v ^ (v >> 30)) * 0xBF58476D1CE4E5B9;
  v = (v ^ (v >> 27)) * 0x94D049BB133111EB;
  return v ^ (v >> 31);
}

}  // namespace engram
