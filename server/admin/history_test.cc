#include "server/admin/history.h"

#include <memory>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using ::testing::SizeIs;

// Moves the time once the thread waits for it, and waits until it has taken what came of it.
void Advance(FakeClock& clock, const History& history, size_t points) {
  clock.AwaitWaiters(1);
  clock.Advance(History::kInterval);
  while (history.Points().size() < points) std::this_thread::yield();
}

TEST(History, APointIsTheRateSinceTheOneBefore) {
  FakeClock clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  const auto history = History::Start(&metrics, &clock).value();
  clock.AwaitWaiters(1);
  EXPECT_THAT(history->Points(), SizeIs(0));
  for (int i = 0; i < 100; ++i) {
    thread->Began();
    thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 20, 1000,
                     std::chrono::microseconds(i < 98 ? 3 : 1000));
  }
  Advance(clock, *history, 1);
  Advance(clock, *history, 2);
  const std::vector<HistoryPoint> points = history->Points();
  EXPECT_DOUBLE_EQ(points[0].requests_per_s, 20);
  EXPECT_DOUBLE_EQ(points[0].rows_per_s, 400);
  // 98 of 2.5 to 3 us, two of 896 to 1024 us.
  EXPECT_NEAR(points[0].p50_s, 2.755e-6, 1e-9);
  EXPECT_NEAR(points[0].p99_s, 960e-6, 1e-9);
  EXPECT_DOUBLE_EQ(points[1].requests_per_s, 0);
  EXPECT_DOUBLE_EQ(points[1].p99_s, 0);
}

// A machine that is late: the rate is of the time that passed.
TEST(History, APointIsOfAllTheTimeThatPassed) {
  FakeClock clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  const auto history = History::Start(&metrics, &clock).value();
  clock.AwaitWaiters(1);
  for (const Path path : {Path::kGrpcStream, Path::kRdma}) {
    thread->Began();
    thread->Answered(path, absl::StatusCode::kOk, 20, 1000, std::chrono::microseconds(3));
  }
  clock.Advance(3 * History::kInterval);
  while (history->Points().empty()) std::this_thread::yield();
  const double seconds = absl::ToDoubleSeconds(3 * History::kInterval);
  EXPECT_DOUBLE_EQ(history->Points()[0].requests_per_s, 2 / seconds);
  EXPECT_DOUBLE_EQ(history->Points()[0].rows_per_s, 40 / seconds);
}

// Half of the answers by their bucket's bound, whatever the other half took.
TEST(History, AQuantileIsReachedAndNotPassed) {
  FakeClock clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  const auto history = History::Start(&metrics, &clock).value();
  clock.AwaitWaiters(1);
  for (int i = 0; i < 4; ++i) {
    thread->Began();
    thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 1, 1,
                     std::chrono::microseconds(i < 2 ? 3 : 1000));
  }
  Advance(clock, *history, 1);
  EXPECT_NEAR(history->Points()[0].p50_s, 3e-6, 1e-9);
  EXPECT_NEAR(history->Points()[0].p99_s, 1021.44e-6, 1e-9);
  // What came before the point is none of it.
  thread->Began();
  thread->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 1, 1, std::chrono::microseconds(1000));
  Advance(clock, *history, 2);
  EXPECT_NEAR(history->Points()[1].p50_s, 960e-6, 1e-9);
}

TEST(History, KeepsTheLastPointsAlone) {
  FakeClock clock;
  Metrics metrics;
  const auto thread = metrics.NewThread();
  const auto history = History::Start(&metrics, &clock).value();
  for (size_t i = 0; i < History::kPoints; ++i) Advance(clock, *history, i + 1);
  thread->Began();
  thread->Answered(Path::kRdma, absl::StatusCode::kOk, 5, 5, std::chrono::microseconds(1));
  clock.AwaitWaiters(1);
  clock.Advance(History::kInterval);
  while (history->Points().back().rows_per_s == 0) std::this_thread::yield();
  EXPECT_THAT(history->Points(), SizeIs(History::kPoints));
  EXPECT_DOUBLE_EQ(history->Points().back().rows_per_s, 1);
}

}  // namespace
}  // namespace engram
