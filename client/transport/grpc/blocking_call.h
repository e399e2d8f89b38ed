// A unary call that its caller waits for, and that ends by a deadline of a Clock's.
//
// gRPC's own blocking calls sleep, and end, by the wall clock: where that is set back, they end
// late by as much. Here the caller drives a queue (queue_driver.h), and the call is cancelled when
// the deadline has come. What gRPC does by timers of its own it is reminded of: while nobody
// answers, the connection is tried again once a second at the latest.
//
// One for each call, on its caller's thread. The context's own deadline may be set as well: it
// tells the server. Cost: that of the call.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/async_unary_call.h>

#include <atomic>

#include "absl/functional/function_ref.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/clock.h"
#include "proto/rpc/queue_event.h"

namespace engram {

class BlockingCall final : private rpc::QueueEvent {
 public:
  // All of them outlive it; the clock is the driver's.
  BlockingCall(QueueDriver& driver, grpc::Channel& channel, Clock& clock)
      : driver_(driver), channel_(channel), clock_(clock) {}

  // `reader`: of a call that was started with `context` on the driver's queue. `give_up` is asked
  // once a second: true ends the call before its deadline. DEADLINE_EXCEEDED: it was cancelled for
  // one of the two; else how the server, or gRPC, ended it.
  template <typename Response>
  grpc::Status Finish(
      grpc::ClientContext& context, grpc::ClientAsyncResponseReader<Response>& reader,
      Response* response, MonotonicTime deadline,
      absl::FunctionRef<bool()> give_up = [] { return false; }) {
    driver_.Begin(1);
    reader.Finish(response, &status_, tag());
    return Wait(context, deadline, give_up);
  }

 private:
  void Done(bool ok) override;
  grpc::Status Wait(grpc::ClientContext& context, MonotonicTime deadline,
                    absl::FunctionRef<bool()> give_up);

  QueueDriver& driver_;
  grpc::Channel& channel_;
  Clock& clock_;
  grpc::Status status_;
  std::atomic<bool> done_{false};
};

}  // namespace engram
