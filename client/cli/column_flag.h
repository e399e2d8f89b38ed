// The --columns flag: "0..1,8..9" as runs of columns. Stateless.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/column_slice.h"

namespace engram::cli {

// Runs FIRST..LAST, the last one included, or single columns, with commas between them; empty: no
// columns. INVALID_ARGUMENT names the part that is neither and says why. ColumnSlice::Create has
// the rest.
absl::StatusOr<std::vector<ColumnRun>> ParseColumnRuns(absl::string_view text);

}  // namespace engram::cli
