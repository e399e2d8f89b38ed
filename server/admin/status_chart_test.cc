#include "server/admin/status_chart.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/admin/status_text.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const Chart kRows{.id = "rows",
                  .title = "Rows",
                  .series = {{"now", "blue", [](const auto& at) { return at.rows_per_s; }}},
                  .text = CountText};
const Chart kLatency{.id = "latency",
                     .title = "Latency",
                     .series = {{"p50", "blue", [](const auto& at) { return at.p50_s; }},
                                {"p99", "orange", [](const auto& at) { return at.p99_s; }}},
                     .text = TimeText,
                     .zero_is_nothing = true};

std::vector<HistoryPoint> Points(size_t count, double rows_per_s) {
  return std::vector<HistoryPoint>(count, {.rows_per_s = rows_per_s});
}

TEST(StatusChart, AxesEndAtRoundValues) {
  EXPECT_DOUBLE_EQ(AxisEnd(0), 1);
  EXPECT_DOUBLE_EQ(AxisEnd(1), 1);
  EXPECT_DOUBLE_EQ(AxisEnd(1.2), 2);
  EXPECT_DOUBLE_EQ(AxisEnd(340), 500);
  EXPECT_DOUBLE_EQ(AxisEnd(510), 1000);
  EXPECT_DOUBLE_EQ(AxisEnd(3e-5), 5e-5);
}

TEST(StatusChart, AYoungServerFillsIt) {
  // A minute at least: two points are the last twelfth of it.
  EXPECT_THAT(MakeChart(kRows, Points(2, 100)),
              AllOf(HasSubstr("d=\"M272.7 0.0h0L300.0 0.0\""), HasSubstr("1 minute ago")));
  EXPECT_THAT(MakeChart(kRows, Points(24, 100)),
              AllOf(HasSubstr("d=\"M0.0 0.0h0L13.0 "), HasSubstr("2 minutes ago")));
  EXPECT_THAT(MakeChart(kRows, Points(History::kPoints, 100)), HasSubstr("10 minutes ago"));
  EXPECT_THAT(MakeChart(kRows, {}), HasSubstr("d=\"\""));
}

TEST(StatusChart, HasAnAxisAndALegend) {
  std::vector<HistoryPoint> history = Points(3, 100);
  history[1].rows_per_s = 340;
  const std::string chart = MakeChart(kRows, history);
  EXPECT_THAT(chart, AllOf(HasSubstr("<span>500</span><span>250</span><span>0</span>"),
                           HasSubstr("now <b>100</b>"), HasSubstr("most 340")));
}

TEST(StatusChart, WhereNothingWasMeasuredNothingIsDrawn) {
  std::vector<HistoryPoint> history(5);
  history[1] = {.p50_s = 1e-4, .p99_s = 2e-4};
  history[3] = {.p50_s = 1e-4, .p99_s = 2e-4};
  history[4] = {.p50_s = 1e-4, .p99_s = 2e-4};
  const std::string chart = MakeChart(kLatency, history);
  EXPECT_THAT(chart, AllOf(HasSubstr("class=\"line blue\" d=\"M218.2 50.0h0M272.7 50.0h0L300.0"),
                           HasSubstr("class=\"line orange\" d=\"M218.2 0.0h0M272.7 0.0h0L300.0"),
                           HasSubstr("p99 <b>200 µs</b>"), Not(HasSubstr("nan"))));
}

}  // namespace
}  // namespace engram
