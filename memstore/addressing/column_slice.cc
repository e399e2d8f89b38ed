#include "memstore/addressing/column_slice.h"

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {
namespace {

std::string RunText(const ColumnRun& run) {
  if (run.columns == 0) return absl::StrCat("none from column ", run.first_column);
  // In 64 bits: a run from outside may end anywhere.
  const uint64_t last = uint64_t{run.first_column} + run.columns - 1;
  return absl::StrCat("columns ", run.first_column, "..", last);
}

}  // namespace

ColumnSlice ColumnSlice::All(uint32_t layer_columns) {
  ColumnSlice slice;
  slice.layer_columns_ = slice.columns_ = layer_columns;
  slice.run_count_ = layer_columns > 0 ? 1 : 0;
  slice.runs_[0] = {.first_column = 0, .columns = layer_columns};
  return slice;
}

absl::StatusOr<ColumnSlice> ColumnSlice::Create(absl::Span<const ColumnRun> runs,
                                                uint32_t layer_columns,
                                                std::optional<uint32_t> layer) {
  if (runs.size() > kMaxRuns) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice of ", runs.size(), " runs of columns: ", kMaxRuns,
                     " at most, so join runs that touch, or ask twice"));
  }
  ColumnSlice slice;
  slice.layer_columns_ = layer_columns;
  slice.layer_ = layer;
  uint64_t end = 0;  // of the runs before
  for (size_t i = 0; i < runs.size(); ++i) {
    const ColumnRun& run = runs[i];
    const uint64_t run_end = uint64_t{run.first_column} + run.columns;
    if (run_end > layer_columns) {
      return absl::InvalidArgumentError(
          absl::StrCat("run ", i, " of the slice (", RunText(run), ") is beyond the layer's ",
                       layer_columns, " columns: give columns below ", layer_columns));
    }
    if (run.first_column < end) {
      const bool overlaps = run_end > runs[i - 1].first_column;
      return absl::InvalidArgumentError(absl::StrCat(
          "run ", i, " of the slice (", RunText(run), ") ", overlaps ? "overlaps" : "lies before",
          " run ", i - 1, " (", RunText(runs[i - 1]),
          "): give runs in the order of their columns, each column once"));
    }
    end = run_end;
    if (run.columns == 0) continue;
    slice.columns_ += run.columns;
    ColumnRun* const last = slice.run_count_ == 0 ? nullptr : &slice.runs_[slice.run_count_ - 1];
    if (last != nullptr && last->first_column + last->columns == run.first_column) {
      last->columns += run.columns;
    } else {
      slice.runs_[slice.run_count_++] = run;
    }
  }
  return slice;
}

absl::Status ColumnSlice::Check(uint32_t layer, uint32_t layer_columns) const {
  if (layer_ && *layer_ != layer) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice of layer ", *layer_, " was given for layer ", layer,
                     ": give each layer its own, or make one without a layer"));
  }
  if (layer_columns_ != layer_columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slice of a layer of ", layer_columns_, " columns was given for layer ",
                     layer, ", which has ", layer_columns, ": make it of so many"));
  }
  return absl::OkStatus();
}

uint32_t ColumnSlice::LayerColumn(uint32_t slice_column) const {
  ENGRAM_CHECK(slice_column < columns_, "a column that the slice has not got");
  const ColumnRun* run = runs_.data();
  for (; slice_column >= run->columns; ++run) slice_column -= run->columns;
  return run->first_column + slice_column;
}

std::optional<uint32_t> ColumnSlice::SliceColumn(uint32_t layer_column) const {
  std::optional<uint32_t> found;
  ForEachRun([&](uint32_t slice_column, uint32_t first_column, uint32_t columns) {
    // Unsigned: below the first one is far beyond the last one.
    if (layer_column - first_column < columns) found = slice_column + layer_column - first_column;
  });
  return found;
}

std::string ColumnSlice::ToString() const {
  if (empty()) return absl::StrCat("no columns of ", layer_columns_);
  std::string text = "columns ";
  for (const ColumnRun& run : runs()) {
    absl::StrAppend(&text, &run == runs_.data() ? "" : ", ", run.first_column, "..",
                    run.first_column + run.columns - 1);
  }
  absl::StrAppend(&text, " of ", layer_columns_);
  return text;
}

absl::Status CheckSlices(absl::Span<const ColumnSlice> slices, size_t layers,
                         absl::FunctionRef<uint32_t(size_t)> layer, uint32_t layer_columns) {
  if (!slices.empty() && slices.size() != layers) {
    return absl::InvalidArgumentError(absl::StrCat(slices.size(), " slices of columns for ", layers,
                                                   " layers: one for each layer, or none"));
  }
  for (size_t i = 0; i < slices.size(); ++i) {
    if (absl::Status s = slices[i].Check(layer(i), layer_columns); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace engram
