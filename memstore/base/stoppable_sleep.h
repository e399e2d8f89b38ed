// Sleeping that a std::stop_token ends, on a Clock: for threads that try again after a while and
// have to end at once.
//
// Stateless and thread-safe. Cost: that of the clock's wait.
#pragma once

#include <stop_token>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

// Returns after `span`, or at once when stop is requested, before or meanwhile; whether it was.
inline bool SleepUnlessStopped(Clock& clock, absl::Duration span, const std::stop_token& stop) {
  const MonotonicTime end = clock.After(span);
  Mutex mutex;
  CondVar stopped;
  // Under the mutex: between "not stopped" and sleep nothing is missed.
  const std::stop_callback wake(stop, [&] {
    MutexLock lock(mutex);
    stopped.NotifyAll();
  });
  MutexLock lock(mutex);
  while (!stop.stop_requested() && clock.WaitUntil(stopped, mutex, end)) {
  }
  return stop.stop_requested();
}

}  // namespace engram
