// How many lines of one kind a log takes in a second: what others cause without end fills no disk.
//
// Thread-safe. Costs a short lock.
#pragma once

#include <cstdint>

#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

class LogPace {
 public:
  struct Turn {
    bool may_write = false;
    uint64_t left_out = 0;  // lines before this one, to be told; once
  };

  // `clock` outlives it.
  LogPace(uint64_t lines_per_second, const Clock* clock)
      : lines_per_second_(lines_per_second), clock_(clock) {}
  Turn Next() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const uint64_t lines_per_second_;
  const Clock* const clock_;
  Mutex mutex_;
  MonotonicTime second_ ABSL_GUARDED_BY(mutex_) = {};  // that lines are counted in
  uint64_t lines_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace engram
