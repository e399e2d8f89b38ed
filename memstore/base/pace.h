// Spreads work over time: so many bytes a second, in pieces.
//
// What was lost to oversleeping is made up for, but not more than kMostCatchUp of it: after a long
// stop the work goes on at its rate, not in a burst. Arithmetic alone; one thread's.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram {

class Pace {
 public:
  static constexpr absl::Duration kMostCatchUp = absl::Milliseconds(100);

  Pace(double bytes_per_s, MonotonicTime now) : bytes_per_s_(bytes_per_s), due_(now) {}

  // `bytes` were done by `now`: when the next piece may begin.
  MonotonicTime After(uint64_t bytes, MonotonicTime now) {
    due_ = std::max(due_, now - kMostCatchUp) +
           absl::Seconds(static_cast<double>(bytes) / bytes_per_s_);
    return due_;
  }

 private:
  const double bytes_per_s_;
  MonotonicTime due_;
};

}  // namespace engram
