#include "memstore/addressing/column_check.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

bool IsOfColumn(const LayerAddressing& layer, uint32_t column, uint64_t id) {
  return id - layer.offsets[column] < layer.moduli[column];  // unsigned: below it is far above
}

// Non-zero sign when one of a token's ids is outside of its column. Rows are below 2^40 (scheme.h),
// so a difference has its sign set, or is above the modulus, exactly when the id is outside; no
// branch, so that the loop becomes vector code.
template <typename Id>
uint64_t Signs(const LayerAddressing& layer, const ColumnSlice& slice, const Id* ids) {
  uint64_t signs = 0;
  for (const ColumnRun& run : slice.runs()) {
    const uint64_t* const offsets = layer.offsets.data() + run.first_column;
    const uint64_t* const moduli = layer.moduli.data() + run.first_column;
    for (uint32_t c = 0; c < run.columns; ++c) {
      const uint64_t local = uint64_t{ids[c]} - offsets[c];
      signs |= local | (moduli[c] - 1 - local);
    }
    ids += run.columns;
  }
  return signs;
}

std::string Cause(const LayerAddressing& layer, uint32_t column, uint64_t id) {
  const uint64_t offset = layer.offsets[column];
  if (id < layer.moduli[column]) return "ids local to a head? Add the column's offset";
  if (id >= offset && IsOfColumn(layer, column, id - offset)) return "offset added twice?";
  for (uint32_t other = 0; other < layer.offsets.size(); ++other) {
    if (IsOfColumn(layer, other, id)) {
      return absl::StrCat("it is of column ", other, ": columns in another order?");
    }
  }
  return "it is beyond the table: address with the scheme of the table set that is asked";
}

absl::Status WrongColumn(const LayerAddressing& layer, const ColumnSlice& slice, uint64_t index,
                         uint64_t id) {
  const uint64_t token = index / slice.columns();
  const uint32_t column = slice.LayerColumn(static_cast<uint32_t>(index % slice.columns()));
  const uint64_t offset = layer.offsets[column];
  return absl::InvalidArgumentError(
      absl::StrCat("row id ", id, " at index ", index, " (token ", token, ", column ", column,
                   ") is not a row of its column, which has ", offset, "..",
                   offset + layer.moduli[column] - 1, ": ", Cause(layer, column, id)));
}

}  // namespace

template <typename Id>
absl::Status CheckColumnIds(const LayerAddressing& layer, const ColumnSlice& slice,
                            absl::Span<const Id> ids) {
  const auto layer_columns = static_cast<uint32_t>(layer.moduli.size());
  if (absl::Status s = slice.Check(layer.layer, layer_columns); !s.ok()) return s;
  const uint32_t columns = slice.columns();
  if (columns == 0 ? !ids.empty() : ids.size() % columns != 0) {
    return absl::InvalidArgumentError(absl::StrCat(ids.size(), " row ids are not whole tokens of ",
                                                   columns, " columns (", slice.ToString(),
                                                   "): give ", columns, " ids for each token"));
  }
  uint64_t signs = 0;
  for (size_t at = 0; at < ids.size(); at += columns) signs |= Signs(layer, slice, &ids[at]);
  if (signs >> 63 == 0) return absl::OkStatus();
  for (size_t i = 0;; ++i) {
    const uint32_t column = slice.LayerColumn(static_cast<uint32_t>(i % columns));
    if (!IsOfColumn(layer, column, ids[i])) return WrongColumn(layer, slice, i, ids[i]);
  }
}
template absl::Status CheckColumnIds<uint32_t>(const LayerAddressing&, const ColumnSlice&,
                                               absl::Span<const uint32_t>);
template absl::Status CheckColumnIds<uint64_t>(const LayerAddressing&, const ColumnSlice&,
                                               absl::Span<const uint64_t>);

}  // namespace engram
