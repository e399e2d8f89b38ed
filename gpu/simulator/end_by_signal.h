// What is done before SIGTERM, SIGINT or SIGHUP ends the process: none of them may leave a server
// and its files behind.
//
// One for a process, made before any other thread, which inherit that these signals are blocked.
// It has a thread and is never destroyed. Thread-safe.
#pragma once

#include <functional>

#include "memstore/base/mutex.h"

namespace engram::simulator {

class EndBySignal {
 public:
  static EndBySignal& Begin();
  // Whoever forks has the child take signals as every program does before it runs another.
  static void Unblock();
  // Called once, by the thread of the signals, before the process ends as it would have by itself;
  // null: nothing. The one before is not under way when it returns.
  void CleanUpBy(std::function<void()> clean_up) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  EndBySignal();
  [[noreturn]] void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  std::function<void()> clean_up_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram::simulator
