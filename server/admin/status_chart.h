// A chart of the status page: lines over the last minutes, with axes and a legend. Stateless.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "server/admin/history.h"

namespace engram {

struct ChartSeries {
  const char* label;   // in the legend
  const char* colour;  // of status_style.h: "blue", "orange"
  std::function<double(const HistoryPoint&)> pick;
};

struct Chart {
  const char* id;
  const char* title;
  std::vector<ChartSeries> series;
  std::function<std::string(double)> text;  // of a value, on the axis and in the legend
  bool zero_is_nothing = false;             // such a point is left out: nothing was measured
};

// HTML. The newest point is at the right edge. A server that is young fills the chart as well: the
// time axis is as long as its history, a minute at least.
std::string MakeChart(const Chart& chart, absl::Span<const HistoryPoint> history);

// The least of 1, 2 and 5 times a power of ten that is not below it; 1 for 0.
double AxisEnd(double most);

}  // namespace engram
