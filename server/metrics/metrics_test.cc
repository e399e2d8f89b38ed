#include "server/metrics/metrics.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;

TEST(Metrics, BoundsAreInclusive) {
  // Quarters of an octave: 1, 1.25, 1.5, 1.75, 2, 2.5, ... us.
  for (size_t i = 0; i < LatencyHistogram::kBounds; ++i) {
    const uint64_t ns = LatencyHistogram::Bound(i) * 250;
    EXPECT_EQ(LatencyHistogram::IndexOf(ns), i);
    EXPECT_EQ(LatencyHistogram::IndexOf(ns + 1), i + 1);
  }
  EXPECT_EQ(LatencyHistogram::IndexOf(0), 0u);
  EXPECT_EQ(LatencyHistogram::Bound(4), 8u);
  EXPECT_DOUBLE_EQ(LatencyHistogram::BoundSeconds(5), 2.5e-6);
  EXPECT_DOUBLE_EQ(LatencyHistogram::BoundSeconds(80), 1.048576);
  EXPECT_EQ(LatencyHistogram::IndexOf(~uint64_t{0} / 2), LatencyHistogram::kBounds);
  RowsHistogram rows;
  for (const uint64_t count : {1, 2, 4, 5, 16, 17}) rows.Record(count, count);
  EXPECT_EQ(rows.counts[0].Read(), 1u);
  EXPECT_EQ(rows.counts[1].Read(), 2u);
  EXPECT_EQ(rows.counts[2].Read(), 2u);
  EXPECT_EQ(rows.counts[3].Read(), 1u);
}

TEST(Metrics, PublishedBucketsArePowersOfTwo) {
  LatencySum sum;
  sum.total = 7;
  for (const uint64_t us : {0, 1, 2, 3, 4, 5, 1 << 20, (1 << 20) + 1}) {
    ++sum.counts[LatencyHistogram::IndexOf(us * 1000)];
  }
  const HistogramSum<kLatencyBounds> coarse = ByPowersOfTwo(sum);
  EXPECT_EQ(coarse.total, 7u);
  EXPECT_EQ(coarse.counts[0], 2u);   // 0, 1
  EXPECT_EQ(coarse.counts[1], 1u);   // 2
  EXPECT_EQ(coarse.counts[2], 2u);   // 3, 4
  EXPECT_EQ(coarse.counts[3], 1u);   // 5
  EXPECT_EQ(coarse.counts[20], 1u);  // 2^20
  EXPECT_EQ(coarse.counts[21], 1u);  // above
}

TEST(Metrics, AQuantileIsInterpolatedInItsBucket) {
  LatencySum sum;
  EXPECT_EQ(QuantileSeconds(sum.counts, 0.5), 0);
  sum.counts[LatencyHistogram::IndexOf(10'000)] = 90;   // 8 to 10 us
  sum.counts[LatencyHistogram::IndexOf(100'000)] = 10;  // 96 to 112 us
  EXPECT_DOUBLE_EQ(QuantileSeconds(sum.counts, 0.45), 9e-6);
  EXPECT_DOUBLE_EQ(QuantileSeconds(sum.counts, 0.9), 10e-6);
  EXPECT_DOUBLE_EQ(QuantileSeconds(sum.counts, 0.95), 104e-6);
  sum.counts.back() = 1000;
  EXPECT_DOUBLE_EQ(QuantileSeconds(sum.counts, 0.99), 1.048576);
}

TEST(Metrics, SumsThreadsAndKeepsWhatEndedOnesCounted) {
  Metrics metrics;
  auto one = metrics.NewThread();
  const auto two = metrics.NewThread();
  one->Began();
  one->Answered(Path::kGrpcStream, absl::StatusCode::kOk, 10, 1000, microseconds(3));
  two->Began();
  two->Began();
  two->Answered(Path::kGrpcUnary, absl::StatusCode::kInvalidArgument, 7, 70, nanoseconds(10));
  two->Rejected(Rejection::kLate);
  one->RecordLatency(Stage::kGather, microseconds(100));
  one.reset();
  const MetricSums sums = metrics.Sum();
  EXPECT_EQ(sums.began - sums.ended, 1u);
  EXPECT_EQ(sums.requests[0][0], 1u);
  EXPECT_EQ(sums.requests[1][3], 1u);
  EXPECT_EQ(sums.rows[0], 10u);
  EXPECT_EQ(sums.rows[1], 0u);  // of answers that are OK
  EXPECT_EQ(sums.bytes[0], 1000u);
  EXPECT_EQ(sums.request_seconds[0].counts[LatencyHistogram::IndexOf(3000)], 1u);
  EXPECT_EQ(sums.request_seconds[0].total, 3000u);
  EXPECT_EQ(sums.stage_seconds[2].counts[LatencyHistogram::IndexOf(100'000)], 1u);
  EXPECT_EQ(sums.rejections[0], 1u);
}

TEST(Metrics, TellsDeadTokensAndLookupsOfNothingElse) {
  Metrics metrics;
  const auto thread = metrics.NewThread();
  thread->Addressed(3, {});
  thread->Addressed(2, std::vector<uint8_t>{1, 0});
  thread->Addressed(2, std::vector<uint8_t>{1, 255});
  thread->Addressed(0, {});  // by row ids
  const MetricSums sums = metrics.Sum();
  EXPECT_EQ(sums.token_lookups, 3u);
  EXPECT_EQ(sums.tokens, 7u);
  EXPECT_EQ(sums.dead_tokens, 3u);
  EXPECT_EQ(sums.all_dead_lookups, 1u);
}

TEST(Metrics, NothingIsLostWhileThreadsCountAndOthersLook) {
  Metrics metrics;
  std::atomic<bool> stop{false};
  std::thread looker([&] {
    uint64_t before = 0;
    while (!stop.load()) {
      const MetricSums sums = metrics.Sum();
      EXPECT_GE(sums.ended, before);
      EXPECT_GE(sums.began, sums.ended);
      before = sums.ended;
    }
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto mine = metrics.NewThread();
      for (int n = 0; n < 10000; ++n) {
        mine->Began();
        mine->Answered(Path::kRdma, absl::StatusCode::kOk, 1, 2, nanoseconds(n));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  stop.store(true);
  looker.join();
  EXPECT_EQ(metrics.Sum().requests[3][0], 40000u);
  EXPECT_EQ(metrics.Sum().bytes[3], 80000u);
}

}  // namespace
}  // namespace engram
