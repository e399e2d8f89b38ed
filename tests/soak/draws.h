// What a soak draws at random: the same seed draws the same, so that a run can be had again.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>

#include "absl/time/time.h"

namespace engram::soak {

// Used by one thread.
class Draws {
 public:
  explicit Draws(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  bool OneIn(uint64_t times) { return Below(times) == 0; }
  // 1 to `most`, as many of each order of magnitude.
  uint64_t Size(uint64_t most) {
    const double size = std::exp(Share() * std::log(static_cast<double>(most) + 1));
    return std::min(most, std::max<uint64_t>(1, static_cast<uint64_t>(size)));
  }
  absl::Duration Time(absl::Duration least, absl::Duration most) {
    return least * std::exp(Share() * std::log(absl::FDivDuration(most, least)));
  }
  std::mt19937_64& generator() { return random_; }

 private:
  double Share() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  std::mt19937_64 random_;
};

}  // namespace engram::soak
