// Calls whose answer waits for its client to take it, and how many of them there may be.
//
// A client that takes nothing (its HTTP/2 window is closed, or it was stopped) would keep what an
// answer holds for as long as it likes, and others out where calls are counted. Here the oldest is
// ended for the next one. Thread-safe; calls into gRPC without its lock.
#pragma once

#include <cstddef>
#include <list>

#include "memstore/base/mutex.h"

struct grpc_call;

namespace engram {

class OpenCalls {
 public:
  // More answers than operators wait for at once; each has some KiB.
  static constexpr size_t kMost = 64;

  // Between the two the call is alive, and may be cancelled. Ended has no effect on a call that is
  // not here.
  void Answered(grpc_call* call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Ended(grpc_call* call) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  std::list<grpc_call*> waiting_ ABSL_GUARDED_BY(mutex_);  // the oldest first
};

}  // namespace engram
