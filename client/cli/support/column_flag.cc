#include "client/cli/support/column_flag.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace engram::cli {
namespace {

// Far above any layer's columns, and a run's end cannot overflow.
constexpr uint64_t kMaxColumn = 1 << 20;

// A column's number; one that does not fit in 64 bits is beyond kMaxColumn all the same.
bool ParseColumn(absl::string_view text, uint64_t* column) {
  if (text.empty() || !absl::c_all_of(text, absl::ascii_isdigit)) return false;
  if (!absl::SimpleAtoi(text, column)) *column = kMaxColumn + 1;
  return true;
}

absl::Status NoRun(absl::string_view part, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("\"", part, "\" ", why));
}

}  // namespace

absl::StatusOr<std::vector<ColumnRun>> ParseColumnRuns(absl::string_view text) {
  std::vector<ColumnRun> runs;
  if (text.empty()) return runs;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits("..", 1));
    const bool single = part.find("..") == absl::string_view::npos;
    uint64_t first = 0, last = 0;
    if (!ParseColumn(ends.first, &first) ||
        !ParseColumn(single ? ends.first : ends.second, &last)) {
      return NoRun(part, "is no run of columns: give FIRST..LAST, or one column");
    }
    if (std::max(first, last) > kMaxColumn) {
      return NoRun(part,
                   "is beyond the columns of any layer: give columns below the number that "
                   "`engram inspect` shows");
    }
    if (last < first) return NoRun(part, "ends before it begins: give FIRST..LAST");
    runs.push_back({.first_column = static_cast<uint32_t>(first),
                    .columns = static_cast<uint32_t>(last - first + 1)});
  }
  return runs;
}

void AddColumnFlag(CLI::App& command, const std::string& help,
                   std::optional<std::string>* columns) {
  command
      .add_option("--columns", *columns,
                  absl::StrCat("of every layer, as 0..1,8..9,16..17 (heads 0 and 1 of 3 orders of "
                               "8): ",
                               help))
      ->type_name("RUNS");
}

absl::StatusOr<ColumnSlice> SliceOfFlag(const std::optional<std::string>& columns,
                                        uint32_t layer_columns) {
  if (!columns) return ColumnSlice::All(layer_columns);
  const absl::StatusOr<std::vector<ColumnRun>> runs = ParseColumnRuns(*columns);
  absl::StatusOr<ColumnSlice> slice =
      runs.ok() ? ColumnSlice::Create(*runs, layer_columns) : runs.status();
  if (slice.ok() && slice->empty()) {
    slice = absl::InvalidArgumentError(
        "no columns are named: give FIRST..LAST, or leave the flag out for all");
  }
  if (slice.ok()) return slice;
  return absl::Status(slice.status().code(), absl::StrCat("--columns: ", slice.status().message()));
}

}  // namespace engram::cli
