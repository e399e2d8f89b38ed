#include "client/transport/grpc/grpc_deadline.h"

#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

absl::Duration Left(gpr_timespec moment) { return absl::FromChrono(rpc::LeftUntil(moment)); }

TEST(GrpcDeadline, IsWhatTheClockSaysIsLeft) {
  FakeClock clock;
  const MonotonicTime deadline = clock.After(absl::Hours(10));
  EXPECT_GT(Left(GrpcDeadline(deadline, clock)), absl::Hours(9));
  EXPECT_LE(Left(GrpcDeadline(deadline, clock)), absl::Hours(10));
  clock.Advance(absl::Hours(8));
  EXPECT_GT(Left(GrpcDeadline(deadline, clock)), absl::Hours(1));
  EXPECT_LE(Left(GrpcDeadline(deadline, clock)), absl::Hours(2));
  clock.Advance(absl::Hours(3));
  EXPECT_LE(Left(GrpcDeadline(deadline, clock)), -absl::Hours(1));
}

TEST(GrpcDeadline, NeverIsNever) {
  EXPECT_EQ(rpc::LeftUntil(GrpcDeadline(MonotonicTime::Infinite(), RealClock())), rpc::kForever);
}

}  // namespace
}  // namespace engram
