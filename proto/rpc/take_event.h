// Taking an event of a completion queue: one that is there, or the next one within a time.
//
// Looking for one for a moment before sleeping is memstore/os/adaptive_spin.h's, over these two.
// Thread-safe as the queue is. Time is the queue's own (grpc_time.h).
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "proto/rpc/grpc_time.h"

namespace engram::rpc {

// Takes an event that is there; TIMEOUT where there is none. Never sleeps.
inline grpc::CompletionQueue::NextStatus TakeReadyEvent(grpc::CompletionQueue& queue, void** tag,
                                                        bool* ok) {
  return queue.AsyncNext(tag, ok, AtOnce());
}

// Sleeps until there is one, for at most `wait` (rounded up to a millisecond by gRPC). TIMEOUT
// where none came.
inline grpc::CompletionQueue::NextStatus TakeEvent(grpc::CompletionQueue& queue, void** tag,
                                                   bool* ok, std::chrono::nanoseconds wait) {
  return queue.AsyncNext(tag, ok, After(wait));
}

}  // namespace engram::rpc
