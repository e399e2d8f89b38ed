#include "server/base/log_pace.h"

#include <utility>

#include "absl/time/time.h"

namespace engram {

LogPace::Turn LogPace::Next() {
  const MonotonicTime now = clock_->Now();
  Turn turn;
  MutexLock lock(mutex_);
  if (now - second_ >= absl::Seconds(1)) {
    turn.left_out = std::exchange(left_out_, 0);
    second_ = now;
    lines_ = 0;
  }
  turn.may_write = lines_ < lines_per_second_;
  ++(turn.may_write ? lines_ : left_out_);
  return turn;
}

}  // namespace engram
