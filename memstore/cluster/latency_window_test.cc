#include "memstore/cluster/latency_window.h"

#include <algorithm>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

const MonotonicTime kStart = MonotonicTime() + absl::Seconds(5000);

TEST(LatencyWindowTest, SaysNothingOfFewSamples) {
  LatencyWindow window;
  for (uint32_t i = 0; i < LatencyWindow::kLeastSamples - 1; ++i) {
    window.Add(absl::Milliseconds(1), kStart);
  }
  EXPECT_FALSE(window.P95(kStart).has_value());
  window.Add(absl::Milliseconds(1), kStart);
  EXPECT_TRUE(window.P95(kStart).has_value());
}

TEST(LatencyWindowTest, IsTheNinetyFifthPercentile) {
  std::mt19937_64 random(3);
  for (const int64_t scale : {1, 30, 1000, 100'000, 10'000'000}) {
    LatencyWindow window;
    std::vector<int64_t> all;
    for (int i = 0; i < 5000; ++i) {
      all.push_back(static_cast<int64_t>(random() % 1000) * scale / 10);
      window.Add(absl::Microseconds(all.back()), kStart);
    }
    std::sort(all.begin(), all.end());
    if (all[4750] > 60'000'000) continue;  // beyond what it tells apart
    const int64_t p95 = absl::ToInt64Microseconds(window.P95(kStart).value());
    EXPECT_GE(p95, all[4700]) << scale;
    EXPECT_LE(p95, all[4800] + all[4800] / 15 + 2) << scale;
  }
}

TEST(LatencyWindowTest, ForgetsWhatIsOld) {
  LatencyWindow window;
  for (int i = 0; i < 1000; ++i) window.Add(absl::Milliseconds(100), kStart);
  EXPECT_GT(*window.P95(kStart), absl::Milliseconds(99));
  // In the next span both count.
  MonotonicTime now = kStart + LatencyWindow::kSpan;
  for (int i = 0; i < 1000; ++i) window.Add(absl::Milliseconds(1), now);
  EXPECT_GT(*window.P95(now), absl::Milliseconds(99));
  now += LatencyWindow::kSpan;
  for (int i = 0; i < 1000; ++i) window.Add(absl::Milliseconds(1), now);
  EXPECT_LT(*window.P95(now), absl::Milliseconds(2));
  EXPECT_FALSE(window.P95(now + absl::Hours(1)).has_value());
}

TEST(LatencyWindowTest, TakesAnyTime) {
  LatencyWindow window;
  for (int i = 0; i < 200; ++i) {
    window.Add(-absl::Seconds(1), kStart);
    window.Add(absl::Hours(100), kStart);
    window.Add(absl::InfiniteDuration(), kStart);
  }
  EXPECT_GT(*window.P95(kStart), absl::Minutes(1));
}

}  // namespace
}  // namespace engram
