#include "memstore/gather/gather_tuning.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "memstore/base/splitmix64.h"
#include "memstore/gather/gather_kernels.h"

namespace engram {
namespace {

// Prefetched and not copied yet, at most: less than half of the smallest first cache that such a
// distance is of use with (48 KiB).
constexpr uint64_t kMostAheadBytes = 20 << 10;
constexpr uint32_t kDistances[] = {4, 6, 8, 12, 16, 24, 32, 48, kMostAheadRows};

// A timing is of one long call and several short ones, as prefill and decode make them: some 50 us,
// so that one in a few is not interrupted on a machine that has other work.
constexpr size_t kLongRows = 512;
constexpr size_t kShortRows = 64;
constexpr size_t kShortCalls = 8;
constexpr size_t kTimingRows = kLongRows + kShortRows * kShortCalls;
// Minima of so many settle within two percent; more where there is time for it is no use.
constexpr int kMostRounds = 16;

// What differs by less than this between two runs of one distance.
constexpr double kAboutEqual = 1.02;
constexpr double kClearlyBetter = 0.95;

std::vector<AheadTiming> Distances(uint32_t row_bytes) {
  const auto standard = static_cast<uint32_t>(gather_internal::PrefetchDistance(row_bytes));
  std::vector<AheadTiming> timings = {{standard, std::numeric_limits<double>::infinity()}};
  for (const uint32_t rows : kDistances) {
    if (rows == standard || uint64_t{rows} * row_bytes > kMostAheadBytes) continue;
    timings.push_back({rows, std::numeric_limits<double>::infinity()});
  }
  return timings;
}

// Gathers rows that were not read lately.
class Timer {
 public:
  Timer(const GatherTable& table, const Clock& clock)
      : table_(table), clock_(clock), ids_(kTimingRows), landing_(kTimingRows * table.row_bytes) {}

  double NsARow(uint32_t ahead_rows) {
    for (RowId& id : ids_) id = table_.first_row + SplitMix64Mix(draw_++) % table_.rows;
    table_.ahead_rows = ahead_rows;
    const MonotonicTime begin = clock_.Now();
    Gather(0, kLongRows);
    for (size_t i = 0; i < kShortCalls; ++i) Gather(kLongRows + i * kShortRows, kShortRows);
    return absl::ToDoubleNanoseconds(clock_.Now() - begin) / kTimingRows;
  }

 private:
  void Gather(size_t first, size_t count) {
    GatherRange<RowId>(table_, ids_, first, count, Landing{.data = landing_.data()});
  }

  GatherTable table_;
  const Clock& clock_;
  std::vector<RowId> ids_;
  std::vector<std::byte> landing_;
  uint64_t draw_ = 0;
};

}  // namespace

std::string GatherCalibration::ToString() const {
  std::string text = absl::StrCat(ahead_rows, " rows ahead, ");
  switch (source) {
    case Source::kGiven:
      return text + "as given";
    case Source::kDefault:
      return text + "the default";
    case Source::kMeasured:
      break;
  }
  absl::StrAppendFormat(&text, "measured: %.1f ns a row", chosen.ns_a_row);
  if (chosen.rows != standard.rows) {
    absl::StrAppendFormat(&text, ", %.1f with the default of %d", standard.ns_a_row, standard.rows);
  }
  return text;
}

GatherCalibration GivenAhead(const GatherTable& table, uint32_t ahead_rows) {
  const auto standard = static_cast<uint32_t>(gather_internal::PrefetchDistance(table.row_bytes));
  return {.ahead_rows = ahead_rows,
          .source = GatherCalibration::Source::kGiven,
          .standard = {standard, 0},
          .chosen = {ahead_rows, 0}};
}

AheadTiming ChooseAhead(absl::Span<const AheadTiming> timings) {
  const AheadTiming& standard = timings[0];
  double best = standard.ns_a_row;
  for (const AheadTiming& timing : timings) best = std::min(best, timing.ns_a_row);
  if (!(best < standard.ns_a_row * kClearlyBetter)) return standard;
  // The standard is clearly worse than the best, so it is not taken again.
  AheadTiming chosen = {.rows = std::numeric_limits<uint32_t>::max()};
  for (const AheadTiming& timing : timings) {
    if (timing.ns_a_row <= best * kAboutEqual && timing.rows < chosen.rows) chosen = timing;
  }
  return chosen;
}

GatherCalibration CalibrateGather(const GatherTable& table, const Clock& clock) {
  std::vector<AheadTiming> timings = Distances(table.row_bytes);
  GatherCalibration result{
      .ahead_rows = timings[0].rows, .standard = {timings[0].rows, 0}, .chosen = {}};
  if (table.rows * table.row_bytes < kLeastTableBytes) return result;
  Timer timer(table, clock);
  (void)timer.NsARow(timings[0].rows);  // the landing's pages are there from here on
  const MonotonicTime end = clock.After(kMostCalibration);
  for (int round = 0; round < kMostRounds; ++round) {
    // A round is whole or does not count: minima of as many tries for each.
    std::vector<AheadTiming> so_far = timings;
    for (AheadTiming& timing : so_far) {
      timing.ns_a_row = std::min(timing.ns_a_row, timer.NsARow(timing.rows));
    }
    if (clock.Now() > end && round > 0) break;
    timings = std::move(so_far);
  }
  result.source = GatherCalibration::Source::kMeasured;
  result.standard = timings[0];
  result.chosen = ChooseAhead(timings);
  result.ahead_rows = result.chosen.rows;
  return result;
}

}  // namespace engram
