#include "client/transport/grpc/blocking_call.h"

#include <algorithm>

namespace engram {
namespace {

// Longer than gRPC waits between two tries (kMaxReconnectBackoffMs), so that it says when.
constexpr absl::Duration kConnectAgain = absl::Seconds(1);

}  // namespace

void BlockingCall::Done(bool) {
  driver_.Finish();
  done_.store(true);
}

grpc::Status BlockingCall::Wait(grpc::ClientContext& context, MonotonicTime deadline,
                                absl::FunctionRef<bool()> give_up) {
  const auto done = [this] { return done_.load(); };
  bool late = false;
  while (!driver_.DriveUntil(done, std::min(deadline, clock_.After(kConnectAgain)))) {
    late = clock_.Now() >= deadline || give_up();
    if (late) break;
    grpc::experimental::ChannelResetConnectionBackoff(&channel_);
  }
  if (late) context.TryCancel();
  // Also when it is done: another thread may be telling it still.
  driver_.DriveOut(done);
  if (late && status_.error_code() == grpc::StatusCode::CANCELLED) {
    return {grpc::StatusCode::DEADLINE_EXCEEDED, "Deadline Exceeded"};  // gRPC's own words
  }
  return status_;
}

}  // namespace engram
