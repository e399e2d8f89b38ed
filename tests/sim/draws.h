// The random numbers of a simulated run: one stream, so that a seed says all.
#pragma once

#include <cmath>
#include <cstdint>

#include "absl/time/time.h"
#include "memstore/base/splitmix64.h"

namespace engram::sim {

class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(SplitMix64Mix(seed)) {}

  uint64_t Next() {
    state_ += kGoldenGamma;
    return SplitMix64Mix(state_);
  }
  uint64_t Below(uint64_t bound) { return (Next() >> 32) * bound >> 32; }
  double Share() { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  bool Chance(double share) { return Share() < share; }
  // Exponential.
  absl::Duration Around(absl::Duration mean) {
    return absl::Nanoseconds(
        static_cast<int64_t>(absl::ToDoubleNanoseconds(mean) * -std::log1p(-Share())));
  }
  absl::Duration Between(absl::Duration least, absl::Duration most) {
    return least + absl::Nanoseconds(Below(absl::ToInt64Nanoseconds(most - least) / 1024) * 1024);
  }

 private:
  uint64_t state_;
};

}  // namespace engram::sim
