#include "gpu/prefetch/step_state.h"

#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gpu/prefetch/deadline_watch.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

const std::vector<uint32_t> kLayers = {1, 14};

class StepStateTest : public ::testing::Test {
 protected:
  RowState At(size_t layer) const { return StateOf(state_.word(layer)->load()); }

  std::unique_ptr<Device> device_ = OpenDevice(DeviceKind::kHost, {}).value();
  DeviceBuffer words_ =
      device_->Allocate(MemoryKind::kPinnedHost, 2 * kStatusWordStride * sizeof(uint32_t)).value();
  FakeClock clock_;
  StepState state_{*device_, words_.as<std::atomic<uint32_t>>(), kLayers, clock_};
};

TEST_F(StepStateTest, ALayerEndsOnce) {
  state_.Begin(1, MonotonicTime::Infinite());
  EXPECT_EQ(At(0), RowState::kInFlight);
  EXPECT_TRUE(state_.End(1, 0, absl::OkStatus()));
  EXPECT_FALSE(state_.End(1, 0, absl::UnavailableError("late"))) << "it has landed";
  EXPECT_EQ(At(0), RowState::kLanded);
  EXPECT_TRUE(state_.End(1, 1, absl::UnavailableError("gone")));
  EXPECT_FALSE(state_.End(1, 1, absl::OkStatus())) << "it has failed";
  EXPECT_EQ(At(1), RowState::kFailed);
  EXPECT_EQ(state_.error().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(state_.error().message(), HasSubstr("step 1, layer 14: gone"));
}

TEST_F(StepStateTest, ALateCompletionOfAnOldStepDoesNotSatisfyANewOne) {
  state_.Begin(1, MonotonicTime::Infinite());
  state_.EndAll(1, absl::DeadlineExceededError("late"));
  state_.Begin(5, MonotonicTime::Infinite());
  EXPECT_FALSE(state_.End(1, 0, absl::OkStatus()));
  state_.EndAll(1, absl::UnavailableError("late as well"));
  state_.Release(1);
  EXPECT_EQ(At(0), RowState::kInFlight);
  EXPECT_EQ(At(1), RowState::kInFlight);
  EXPECT_FALSE(state_.released());
  EXPECT_TRUE(state_.error().ok());
  EXPECT_TRUE(state_.End(5, 0, absl::OkStatus()));
  EXPECT_EQ(state_.word(0)->load(), StatusWord(5, RowState::kLanded));
}

TEST_F(StepStateTest, TheFirstErrorIsTheSteps) {
  state_.Begin(3, MonotonicTime::Infinite());
  state_.End(3, 1, absl::DataLossError("first"));
  state_.EndAll(3, absl::CancelledError("second"));
  EXPECT_EQ(state_.error().code(), absl::StatusCode::kDataLoss);
  state_.Begin(4, MonotonicTime::Infinite());
  EXPECT_TRUE(state_.error().ok());
}

TEST_F(StepStateTest, AwaitsTheEndAndThenTheBuffers) {
  state_.Begin(1, MonotonicTime::Infinite());
  state_.EndAll(1, absl::OkStatus());
  EXPECT_FALSE(state_.Await(1, absl::ZeroDuration()));
  bool came_back = true;
  std::thread waiter([&] { came_back = state_.Await(1, absl::Seconds(2)); });
  clock_.AwaitWaiters(1);
  clock_.Advance(absl::Seconds(2));
  waiter.join();
  EXPECT_FALSE(came_back);
  state_.Release(1);
  EXPECT_TRUE(state_.Await(1, absl::ZeroDuration()));
}

TEST_F(StepStateTest, TheWatchEndsWhatIsLateAndNothingElse) {
  StepState& state = state_;
  const auto watch = DeadlineWatch::Start({&state}, clock_).value();
  for (uint64_t step = 1; step <= 3; ++step) {
    const MonotonicTime deadline = clock_.After(absl::Seconds(5));
    state.Begin(step, deadline);
    EXPECT_TRUE(state.End(step, 0, absl::OkStatus()));
    watch->Watch(deadline);
    clock_.AwaitWaiters(1);
    clock_.Advance(absl::Seconds(4));
    clock_.AwaitWaiters(1);
    EXPECT_TRUE(state.InFlight(step, 1)) << "a second is left";
    clock_.Advance(absl::Seconds(1));
    state.Await(step, absl::ZeroDuration());
    EXPECT_EQ(At(0), RowState::kLanded);
    EXPECT_EQ(At(1), RowState::kFailed);
    EXPECT_EQ(state.error().code(), absl::StatusCode::kDeadlineExceeded);
  }
}

TEST_F(StepStateTest, TheWatchTakesAnEarlierDeadlineThanTheOneItSleepsFor) {
  DeviceBuffer words =
      device_->Allocate(MemoryKind::kPinnedHost, 2 * kStatusWordStride * sizeof(uint32_t)).value();
  StepState other(*device_, words.as<std::atomic<uint32_t>>(), kLayers, clock_);
  const auto watch = DeadlineWatch::Start({&state_, &other}, clock_).value();
  state_.Begin(1, clock_.After(absl::Hours(2)));
  watch->Watch(clock_.After(absl::Hours(2)));
  clock_.AwaitWaiters(1);
  const MonotonicTime soon = clock_.After(absl::Seconds(5));
  other.Begin(2, soon);
  watch->Watch(soon);
  clock_.Advance(absl::Seconds(5));
  other.Await(2, absl::ZeroDuration());  // for ever, if the watch slept on
  EXPECT_EQ(other.error().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(At(0), RowState::kInFlight);
}

}  // namespace
}  // namespace engram
