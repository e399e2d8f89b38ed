// Spreads work over time: so many bytes a second, in pieces.
//
// What was lost to oversleeping is made up for, but not more than kMostCatchUp of it: after a long
// stop the work goes on at its rate, not in a burst. Arithmetic alone; one thread's.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace engram {

class Pace {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kMostCatchUp{100};

  Pace(double bytes_per_s, Clock::time_point now) : bytes_per_s_(bytes_per_s), due_(now) {}

  // `bytes` were done by `now`: when the next piece may begin.
  Clock::time_point After(uint64_t bytes, Clock::time_point now) {
    const std::chrono::duration<double> takes(static_cast<double>(bytes) / bytes_per_s_);
    due_ = std::max(due_, now - kMostCatchUp) + std::chrono::duration_cast<Clock::duration>(takes);
    return due_;
  }

 private:
  const double bytes_per_s_;
  Clock::time_point due_;
};

}  // namespace engram
