#include "client/transport/grpc/grpc_deadline.h"

#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

gpr_timespec Exactly(MonotonicTime time) { return rpc::MonotonicMoment(time.nanoseconds()); }

TEST(GrpcDeadline, TheRealClocksIsTakenAsItIs) {
  const MonotonicTime deadline = RealClock().After(absl::Seconds(5));
  EXPECT_EQ(gpr_time_cmp(GrpcDeadline(deadline, RealClock()), Exactly(deadline)), 0);
}

TEST(GrpcDeadline, OfAnotherClockItIsWhatIsLeft) {
  FakeClock clock;
  for (const absl::Duration left : {absl::Seconds(5), absl::ZeroDuration(), -absl::Seconds(5)}) {
    const MonotonicTime before = RealClock().Now();
    const gpr_timespec moment = GrpcDeadline(clock.After(left), clock);
    const MonotonicTime after = RealClock().Now();
    EXPECT_GE(gpr_time_cmp(moment, Exactly(before + left)), 0);
    EXPECT_LE(gpr_time_cmp(moment, Exactly(after + left)), 0);
  }
}

TEST(GrpcDeadline, NeverIsNever) {
  FakeClock clock;
  for (const Clock* one :
       {static_cast<const Clock*>(&clock), static_cast<const Clock*>(&RealClock())}) {
    EXPECT_EQ(gpr_time_cmp(GrpcDeadline(MonotonicTime::Infinite(), *one),
                           gpr_inf_future(GPR_CLOCK_MONOTONIC)),
              0);
  }
}

}  // namespace
}  // namespace engram
