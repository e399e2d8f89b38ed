// Taking an event of a completion queue: looks for it for a moment before it sleeps.
//
// A thread that sleeps is woken by another, which costs both about 20 us: most of a small batch's
// time, and where one side fills what the other empties, all of the overlap. Between looks the
// processor is given to whoever else can run, so a moment is all that anybody loses by it.
// Thread-safe as the queue is. Time is the queue's own (grpc_time.h).
#pragma once

#include <grpcpp/grpcpp.h>
#include <sched.h>

#include <chrono>

#include "proto/rpc/grpc_time.h"

namespace engram::rpc {

// Takes an event that is there; TIMEOUT where there is none. Never sleeps.
inline grpc::CompletionQueue::NextStatus TakeReadyEvent(grpc::CompletionQueue& queue, void** tag,
                                                        bool* ok) {
  return queue.AsyncNext(tag, ok, AtOnce());
}

// Waits for an event for at most `wait` (rounded up to a millisecond by gRPC), of which it looks
// for it for `spin` and sleeps for the rest. TIMEOUT where none came.
inline grpc::CompletionQueue::NextStatus TakeEvent(grpc::CompletionQueue& queue, void** tag,
                                                   bool* ok, std::chrono::nanoseconds spin,
                                                   std::chrono::nanoseconds wait) {
  const gpr_timespec deadline = After(wait);
  if (spin.count() > 0) {
    const gpr_timespec until = gpr_time_min(After(spin), deadline);
    do {
      const auto taken = TakeReadyEvent(queue, tag, ok);
      if (taken != grpc::CompletionQueue::TIMEOUT) return taken;
      sched_yield();
    } while (gpr_time_cmp(gpr_now(GPR_CLOCK_MONOTONIC), until) < 0);
  }
  return queue.AsyncNext(tag, ok, deadline);
}

}  // namespace engram::rpc
