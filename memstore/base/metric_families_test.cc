#include "memstore/base/metric_families.h"

#include "gtest/gtest.h"

namespace engram {
namespace {

using Type = MetricFamilies::Type;

TEST(MetricFamilies, BucketsAddUpToTheLastWhichHasNoBound) {
  MetricFamilies families("engram_test_");
  auto& first = families.Begin("seconds", Type::Histogram, "How long.");
  for (int i = 0; i < 100; ++i) families.Begin("more", Type::Gauge, "");
  MetricFamilies::AddHistogram(first, {{"way", "one"}}, {{3, 0, 4, 5}}, 0.5, 10, 7.25);
  const std::vector<MetricFamilies::Family> taken = families.Take();
  ASSERT_EQ(taken.size(), 101u);
  EXPECT_EQ(taken[0].name, "engram_test_seconds");
  EXPECT_EQ(taken[0].help, "How long.");
  EXPECT_EQ(taken[0].type, Type::Histogram);
  ASSERT_EQ(taken[0].metric.size(), 1u);
  const prometheus::ClientMetric& metric = taken[0].metric[0];
  EXPECT_EQ(metric.label, (MetricFamilies::Labels{{"way", "one"}}));
  EXPECT_EQ(metric.histogram.sample_count, 12u);
  EXPECT_EQ(metric.histogram.sample_sum, 7.25);
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<uint64_t, double>> expected = {
      {3, 0.5}, {3, 5}, {7, 50}, {12, infinity}};
  ASSERT_EQ(metric.histogram.bucket.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(metric.histogram.bucket[i].cumulative_count, expected[i].first) << i;
    EXPECT_EQ(metric.histogram.bucket[i].upper_bound, expected[i].second) << i;
  }
}

TEST(MetricFamilies, ValuesStandBesideTheirLabels) {
  MetricFamilies families("x_");
  auto& gauge = families.Begin("g", Type::Gauge, "");
  MetricFamilies::AddGauge(gauge, {}, 2.5);
  auto& counter = families.Begin("c", Type::Counter, "");
  MetricFamilies::AddCounter(counter, {{"code", "OK"}}, 3);
  MetricFamilies::AddCounter(counter, {{"code", "ABORTED"}}, 4);
  const std::vector<MetricFamilies::Family> taken = families.Take();
  EXPECT_EQ(taken[0].metric.at(0).gauge.value, 2.5);
  EXPECT_EQ(taken[1].metric.at(0).counter.value, 3);
  EXPECT_EQ(taken[1].metric.at(1).counter.value, 4);
  EXPECT_EQ(taken[1].metric.at(1).label, (MetricFamilies::Labels{{"code", "ABORTED"}}));
}

}  // namespace
}  // namespace engram
