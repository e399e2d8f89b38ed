// Taking an event of a completion queue: looks for it for a moment before it sleeps.
//
// A thread that sleeps is woken by another, which costs both about 20 us: most of a small batch's
// time, and where one side fills what the other empties, all of the overlap. Between looks the
// processor is given to whoever else can run, so a moment is all that anybody loses by it.
// Thread-safe as the queue is.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sched.h>

#include <algorithm>
#include <chrono>

namespace engram::wire {

// As queue.AsyncNext(tag, ok, deadline).
inline grpc::CompletionQueue::NextStatus TakeEvent(grpc::CompletionQueue& queue, void** tag,
                                                   bool* ok, std::chrono::microseconds spin,
                                                   std::chrono::system_clock::time_point deadline) {
  using Clock = std::chrono::system_clock;
  if (spin.count() > 0) {
    const Clock::time_point until = std::min(Clock::now() + spin, deadline);
    do {
      // A time that has passed: looks once.
      const auto taken = queue.AsyncNext(tag, ok, Clock::time_point());
      if (taken != grpc::CompletionQueue::TIMEOUT) return taken;
      sched_yield();
    } while (Clock::now() < until);
  }
  return queue.AsyncNext(tag, ok, deadline);
}

}  // namespace engram::wire
