#include "client/cli/column_flag.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace engram::cli {
namespace {

// Far above any layer's columns, and a run's end cannot overflow.
constexpr uint32_t kMaxColumn = 1 << 20;

}  // namespace

absl::StatusOr<std::vector<ColumnRun>> ParseColumnRuns(absl::string_view text) {
  std::vector<ColumnRun> runs;
  if (text.empty()) return runs;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits("..", 1));
    const bool single = part.find("..") == absl::string_view::npos;
    uint32_t first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) ||
        !absl::SimpleAtoi(single ? ends.first : ends.second, &last) || last < first ||
        last > kMaxColumn) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", part, "\" is no run of columns: give FIRST..LAST, or one column"));
    }
    runs.push_back({.first_column = first, .columns = last - first + 1});
  }
  return runs;
}

}  // namespace engram::cli
