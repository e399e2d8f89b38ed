#include "gpu/simulator/summary.h"

#include <algorithm>
#include <cmath>

namespace engram::simulator {
namespace {

// Of a median's interval: what may lie outside, at both ends together.
constexpr double kOutside = 0.05;

double TokensPerS(const Taken& taken) {
  return static_cast<double>(taken.tokens) * 1e9 / static_cast<double>(taken.ns);
}

// One number of each turn, sorted.
template <typename Number>
std::vector<double> Sorted(absl::Span<const Taken> turns, const Number& number) {
  std::vector<double> values;
  values.reserve(turns.size());
  for (const Taken& turn : turns) values.push_back(number(turn));
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

double Quantile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::optional<Interval> MedianInterval(const std::vector<double>& sorted) {
  // Of n fair coins at most k fall heads with the chance of the sum of n over i, i = 0..k, in 2^n:
  // so likely fewer than k + 1 values lie below the median. Logarithms, as 2^n overflows.
  const auto n = static_cast<double>(sorted.size());
  double log_of_one = -n * std::log(2.0);  // of exactly `rank`
  double chance = 0;
  size_t rank = 0;  // values left out at each end
  for (; rank < sorted.size() / 2; ++rank) {
    chance += std::exp(log_of_one);
    if (2 * chance > kOutside) break;
    const auto next = static_cast<double>(rank + 1);
    log_of_one += std::log((n - next + 1) / next);
  }
  if (rank == 0) return std::nullopt;
  return Interval{sorted[rank - 1], sorted[sorted.size() - rank]};
}

Summary Summarize(absl::Span<const Taken> turns, absl::Span<const Taken> resident, bool waits) {
  Summary summary;
  summary.turns = turns.size();
  const std::vector<double> tokens = Sorted(turns, TokensPerS);
  summary.tokens_per_s = Quantile(tokens, 0.5);
  summary.tokens_per_s_spread = (Quantile(tokens, 0.75) - Quantile(tokens, 0.25)) / 2;
  summary.step_ms =
      Quantile(Sorted(turns,
                      [](const Taken& turn) {
                        return static_cast<double>(turn.ns) / 1e6 / static_cast<double>(turn.steps);
                      }),
               0.5);
  summary.exposed_share = Quantile(Sorted(turns,
                                          [waits](const Taken& turn) {
                                            return waits ? static_cast<double>(turn.exposed_ns) /
                                                               static_cast<double>(turn.ns)
                                                         : 0;
                                          }),
                                   0.5);
  if (turns.data() == resident.data()) {
    summary.loss_percent = 0;
    return summary;
  }
  std::vector<double> losses;
  for (size_t i = 0; i < std::min(turns.size(), resident.size()); ++i) {
    losses.push_back(100 * (1 - TokensPerS(turns[i]) / TokensPerS(resident[i])));
  }
  std::sort(losses.begin(), losses.end());
  summary.loss_interval = MedianInterval(losses);
  if (summary.loss_interval &&
      (summary.loss_interval->low > 0 || summary.loss_interval->high < 0)) {
    summary.loss_percent = Quantile(losses, 0.5);
  }
  return summary;
}

}  // namespace engram::simulator
