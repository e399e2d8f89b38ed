// What the turns of a run come to: medians, how far the turns lie apart, and a loss only where it
// is more than that. Stateless.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "gpu/simulator/engine.h"

namespace engram::simulator {

// Of `sorted`, which is not empty: between its values by straight lines; `share` 0.5 is the median.
double Quantile(const std::vector<double>& sorted, double share);

struct Interval {
  double low = 0, high = 0;
};
// Where the median of what `sorted` was drawn from lies, in 95 of 100 cases at least, whatever its
// distribution (by order statistics); nothing: there are too few values to tell.
std::optional<Interval> MedianInterval(const std::vector<double>& sorted);

struct Summary {
  size_t turns = 0;
  // Medians over the turns.
  double step_ms = 0, tokens_per_s = 0, exposed_share = 0;
  double tokens_per_s_spread = 0;  // half of the range in which the middle half of the turns lies
  // Of tokens per second against those of resident rows in the same turn, in percent. Nothing where
  // the turns do not tell it from none.
  std::optional<double> loss_percent;
  std::optional<Interval> loss_interval;
};

// `turns` and `resident` ran side by side, turn by turn, once at least. `waits`: what their steps
// were exposed to counts as waiting.
Summary Summarize(absl::Span<const Taken> turns, absl::Span<const Taken> resident, bool waits);

}  // namespace engram::simulator
