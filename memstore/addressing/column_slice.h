// Part of a layer's columns: up to eight contiguous runs of them.
//
// A slice is given by layer columns and numbers its own: slice column 0 is the first column of the
// first run, and so on, ascending. Rows of a slice land [tokens, slice columns]. A slice of no
// columns is one too, and is answered by no rows. The columns of a layer are order by order, within
// an order head by head (scheme.h), so the same two heads of three orders are three runs.
//
// A small value (no allocation), immutable, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace engram {

// A contiguous range of a layer's columns.
struct ColumnRun {
  uint32_t first_column = 0;
  uint32_t columns = 0;
  friend bool operator==(const ColumnRun&, const ColumnRun&) = default;
};

class ColumnSlice {
 public:
  // Bounds what a request can make its reader do for each token, and the size of this value; the
  // same heads of every order are one run an order, at most seven (kMaxOrder - 1).
  static constexpr size_t kMaxRuns = 8;

  // No columns, of a layer of none.
  ColumnSlice() = default;

  // All columns of a layer that has so many.
  static ColumnSlice All(uint32_t layer_columns);

  // `runs` ascend and do not overlap. Runs that touch become one and runs of no columns are left
  // out, so it makes no difference how the columns were cut into runs. INVALID_ARGUMENT names the
  // run and what is wrong with it: more than kMaxRuns as given, beyond the layer's columns, out of
  // order, or overlapping; a run of no columns, too, has to stand in order and within the layer.
  // With `layer` the slice is of that layer alone (Check), else of every layer that has as many
  // columns.
  static absl::StatusOr<ColumnSlice> Create(absl::Span<const ColumnRun> runs,
                                            uint32_t layer_columns,
                                            std::optional<uint32_t> layer = std::nullopt);

  // Whether it may be used with this layer: INVALID_ARGUMENT when it was made for another one, or
  // for a layer of another number of columns.
  absl::Status Check(uint32_t layer, uint32_t layer_columns) const;

  uint32_t columns() const { return columns_; }  // of the slice
  uint32_t layer_columns() const { return layer_columns_; }
  std::optional<uint32_t> layer() const { return layer_; }
  bool empty() const { return columns_ == 0; }
  bool is_all() const { return columns_ == layer_columns_; }
  absl::Span<const ColumnRun> runs() const { return {runs_.data(), run_count_}; }

  // The layer's column that is column `slice_column` of the slice; that is below columns().
  uint32_t LayerColumn(uint32_t slice_column) const;
  // The other way; nullopt when the slice has not got the column.
  std::optional<uint32_t> SliceColumn(uint32_t layer_column) const;

  // visit(slice_column, layer_column, columns) for each run, in order.
  template <typename Visit>
  void ForEachRun(Visit&& visit) const {
    uint32_t slice_column = 0;
    for (const ColumnRun& run : runs()) {
      visit(slice_column, run.first_column, run.columns);
      slice_column += run.columns;
    }
  }

  // "columns 0..1, 8..9 of 24", for messages.
  std::string ToString() const;

  // The same columns, out of as many, and made for the same layer or both for none.
  friend bool operator==(const ColumnSlice& a, const ColumnSlice& b) {
    return a.layer_columns_ == b.layer_columns_ && a.layer_ == b.layer_ && a.runs() == b.runs();
  }

 private:
  std::array<ColumnRun, kMaxRuns> runs_{};
  uint32_t run_count_ = 0;
  uint32_t columns_ = 0;
  uint32_t layer_columns_ = 0;
  std::optional<uint32_t> layer_;
};

// Whether there are no slices, or one for each of `layers` layers of `layer_columns` columns, slice
// i for the layer with the number layer(i). INVALID_ARGUMENT: another number of slices, or one that
// may not be used with its layer.
absl::Status CheckSlices(absl::Span<const ColumnSlice> slices, size_t layers,
                         absl::FunctionRef<uint32_t(size_t)> layer, uint32_t layer_columns);

}  // namespace engram
