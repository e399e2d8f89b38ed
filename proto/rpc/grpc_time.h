// gRPC's monotonic clock, by which queues, alarms and deadlines are: spans to its moments and back.
//
// It has an epoch of its own, which is no other clock's, so its moments are for gRPC alone; all
// else is told how much is left. What the wall clock is set to meanwhile changes nothing.
// Thread-safe.
#pragma once

#include <grpc/support/time.h>

#include <chrono>
#include <cstdint>

namespace engram::rpc {

// The longest span there is: it does not end by time.
inline constexpr std::chrono::nanoseconds kForever = std::chrono::nanoseconds::max();

// So long from now, as queues and alarms take it.
inline gpr_timespec After(std::chrono::nanoseconds span) {
  if (span == kForever) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(span.count(), GPR_TIMESPAN));
}

// A moment that has passed: an alarm for it rings in the call that sets it, where After(0) is
// rounded up to the next millisecond and waits for gRPC's timer thread.
inline gpr_timespec AtOnce() { return gpr_time_0(GPR_CLOCK_MONOTONIC); }

// How much is left until a moment of any of gRPC's clocks: a call's raw_deadline(), which is
// monotonic at the server. Below zero where it has passed; kForever where it never comes.
inline std::chrono::nanoseconds LeftUntil(gpr_timespec moment) {
  constexpr int64_t kNanosecondsPerSecond = 1000000000;
  constexpr int64_t kMostSeconds = kForever.count() / kNanosecondsPerSecond - 1;
  const gpr_timespec left = gpr_time_sub(moment, gpr_now(moment.clock_type));
  if (left.tv_sec >= kMostSeconds) return kForever;
  if (left.tv_sec <= -kMostSeconds) return std::chrono::nanoseconds::min();
  return std::chrono::nanoseconds(left.tv_sec * kNanosecondsPerSecond + left.tv_nsec);
}

}  // namespace engram::rpc
