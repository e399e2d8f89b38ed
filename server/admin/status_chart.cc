#include "server/admin/status_chart.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/admin/status_text.h"

namespace engram {
namespace {

// In units of the drawing, which is stretched to the place that there is.
constexpr double kWidth = 300;
constexpr double kHeight = 100;
// A minute.
constexpr size_t kFewestPoints = 12;

// Neighbouring points are joined; one that stands alone is a dot.
std::string Line(const Chart& chart, const ChartSeries& series,
                 absl::Span<const HistoryPoint> history, size_t span, double end) {
  std::string path;
  bool joined = false;
  for (size_t i = 0; i < history.size(); ++i) {
    const double value = series.pick(history[i]);
    if (chart.zero_is_nothing && value <= 0) {
      joined = false;
      continue;
    }
    const auto back = static_cast<double>(history.size() - 1 - i);
    const double x = kWidth - kWidth * back / static_cast<double>(span - 1);
    const double y = kHeight - kHeight * std::min(value / end, 1.0);
    absl::StrAppendFormat(&path, "%s%.1f %.1f", joined ? "L" : "M", x, y);
    if (!joined) absl::StrAppend(&path, "h0");
    joined = true;
  }
  return absl::StrCat("<path class=\"line ", series.colour, "\" d=\"", path, "\"/>");
}

std::string Legend(const Chart& chart, absl::Span<const HistoryPoint> history) {
  const HistoryPoint now = history.empty() ? HistoryPoint{} : history.back();
  std::string text = "<div class=\"legend\">";
  for (const ChartSeries& series : chart.series) {
    double most = 0;
    for (const HistoryPoint& point : history) most = std::max(most, series.pick(point));
    absl::StrAppend(&text, "<span><i class=\"", series.colour, "\"></i>", series.label, " <b>",
                    chart.text(series.pick(now)), "</b> <span class=\"dim\">most ",
                    chart.text(most), "</span></span>");
  }
  return absl::StrCat(text, "</div>");
}

}  // namespace

double AxisEnd(double most) {
  if (!(most > 0)) return 1;
  const double power = std::pow(10, std::floor(std::log10(most)));
  for (const double step : {1.0, 2.0, 5.0}) {
    // What rounding adds is no reason for a longer axis.
    if (most <= step * power * (1 + 1e-9)) return step * power;
  }
  return 10 * power;
}

std::string MakeChart(const Chart& chart, absl::Span<const HistoryPoint> history) {
  const size_t span = std::max(history.size(), kFewestPoints);
  double most = 0;
  for (const HistoryPoint& point : history) {
    for (const ChartSeries& series : chart.series) most = std::max(most, series.pick(point));
  }
  const double end = AxisEnd(most);
  std::string lines;
  for (const double y : {0.0, kHeight / 2, kHeight}) {
    absl::StrAppendFormat(&lines, "<path class=\"axis\" d=\"M0 %.0fH%.0f\"/>", y, kWidth);
  }
  for (const ChartSeries& series : chart.series) {
    absl::StrAppend(&lines, Line(chart, series, history, span, end));
  }
  const absl::Duration shown = History::kInterval * static_cast<double>(span);
  return absl::StrCat(
      "<div class=\"card\" id=\"", chart.id, "\"><h2>", chart.title, "</h2>",
      Legend(chart, history), "<div class=\"chart\"><div class=\"y\"><span>",
      most > 0 ? chart.text(end) : "", "</span><span>", most > 0 ? chart.text(end / 2) : "",
      "</span><span>0</span></div><svg viewBox=\"0 0 300 100\" preserveAspectRatio=\"none\" "
      "role=\"img\" aria-label=\"",
      chart.title, "\">", lines, "</svg><div class=\"x\"><span>", SpanText(shown),
      " ago</span><span>", SpanText(shown / 2), "</span><span>now</span></div></div></div>");
}

}  // namespace engram
