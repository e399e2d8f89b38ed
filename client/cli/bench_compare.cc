#include "client/cli/bench_compare.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram::cli {
namespace {

static_assert(kCompareTurns % 2 == 1);

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The median over the turns of what `number` makes of one.
template <typename Number>
double MedianOf(absl::Span<const BenchResult> turns, Number number) {
  std::vector<double> values;
  for (size_t i = 0; i < turns.size(); ++i) values.push_back(number(turns[i], i));
  return Median(std::move(values));
}

ComparedResult Summarize(absl::Span<const BenchResult> turns,
                         absl::Span<const BenchResult> ceiling) {
  const auto of = [&](double BenchResult::*member) {
    return MedianOf(turns, [=](const BenchResult& turn, size_t) { return turn.*member; });
  };
  const auto over = [&](double BenchResult::*member) {
    return MedianOf(turns, [=](const BenchResult& turn, size_t i) {
      return turn.*member / (ceiling[i].*member);
    });
  };
  ComparedResult result;
  for (const BenchResult& turn : turns) result.median.rounds += turn.rounds;
  result.median.p50_us = of(&BenchResult::p50_us);
  result.median.p99_us = of(&BenchResult::p99_us);
  result.median.p999_us = of(&BenchResult::p999_us);
  result.median.rows_per_s = of(&BenchResult::rows_per_s);
  result.median.gb_per_s = of(&BenchResult::gb_per_s);
  result.median.distinct_share = turns[0].distinct_share;
  result.ratio_rows_per_s = over(&BenchResult::rows_per_s);
  result.ratio_p50 = over(&BenchResult::p50_us);
  return result;
}

// As many as there are rounds for, and an odd number.
size_t TurnsOf(const BenchSetting& setting) {
  if (setting.rounds == 0 || setting.rounds >= kCompareTurns) return kCompareTurns;
  return setting.rounds - (setting.rounds % 2 == 0 ? 1 : 0);
}

}  // namespace

absl::Status CheckSameSet(absl::Span<const BenchPath> paths) {
  const std::string& id = paths[0].clients[0]->table_set().id;
  for (const BenchPath& path : paths) {
    const std::string& other = path.clients[0]->table_set().id;
    if (other == id) continue;
    return absl::InvalidArgumentError(absl::StrCat(path.name, " serves table set ", other, " and ",
                                                   paths[0].name, " serves ", id,
                                                   ": compare paths to one set"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ComparedResult>> RunCompared(absl::Span<const BenchPath> paths,
                                                        const BenchTokens& tokens,
                                                        const BenchSetting& setting) {
  const size_t count = TurnsOf(setting);
  BenchSetting part = setting;
  part.seconds = setting.seconds / static_cast<double>(count);
  std::vector<std::vector<BenchResult>> turns(paths.size());
  for (size_t turn = 0; turn < count; ++turn) {
    part.rounds = setting.rounds / count + (turn < setting.rounds % count ? 1 : 0);
    for (size_t i = 0; i < paths.size(); ++i) {
      // There and back again: no path always follows the same other one.
      const size_t p = turn % 2 == 0 ? i : paths.size() - 1 - i;
      const absl::StatusOr<BenchResult> result = RunBench(paths[p].clients, tokens, part);
      if (!result.ok()) {
        return absl::Status(result.status().code(),
                            absl::StrCat(paths[p].name, ": ", result.status().message()));
      }
      turns[p].push_back(*result);
    }
  }
  std::vector<ComparedResult> results;
  for (const std::vector<BenchResult>& path : turns) results.push_back(Summarize(path, turns[0]));
  return results;
}

}  // namespace engram::cli
