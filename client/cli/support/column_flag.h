// The --columns flag: "0..1,8..9" as runs of columns, and as a slice. Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/column_slice.h"

namespace engram::cli {

// Runs FIRST..LAST, the last one included, or single columns, with commas between them; empty: no
// columns. INVALID_ARGUMENT names the part that is neither and says why. ColumnSlice::Create has
// the rest.
absl::StatusOr<std::vector<ColumnRun>> ParseColumnRuns(absl::string_view text);

void AddColumnFlag(CLI::App& command, const std::string& help, std::optional<std::string>* columns);

// Of every layer that has so many columns; all of them where the flag is not given.
// INVALID_ARGUMENT names the flag: ParseColumnRuns' and ColumnSlice::Create's, or no column at all.
absl::StatusOr<ColumnSlice> SliceOfFlag(const std::optional<std::string>& columns,
                                        uint32_t layer_columns);

}  // namespace engram::cli
