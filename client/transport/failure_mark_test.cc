#include "client/transport/failure_mark.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(FailureMark, SaysThatAConnectionBroke) {
  absl::Status status = absl::UnavailableError("gone");
  EXPECT_FALSE(IsBroken(status));
  MarkBroken(&status);
  const absl::Status copy = status;
  EXPECT_TRUE(IsBroken(copy));
  EXPECT_EQ(copy.message(), "gone");
  EXPECT_FALSE(IsBroken(absl::OkStatus()));
}

TEST(FailureMark, SaysWhenThereIsRoomAgain) {
  absl::Status status = absl::ResourceExhaustedError("full");
  EXPECT_EQ(RetryAfterOf(status), absl::ZeroDuration());
  MarkRetryAfter(absl::Milliseconds(25), &status);
  EXPECT_EQ(RetryAfterOf(status), absl::Milliseconds(25));
  EXPECT_EQ(RetryAfterOf(absl::OkStatus()), absl::ZeroDuration());
}

}  // namespace
}  // namespace engram
