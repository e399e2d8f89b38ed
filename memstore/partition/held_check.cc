#include "memstore/partition/held_check.h"

#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

absl::Status NotHeld(const HeldLayer& held, const LayerAddressing& addressing, uint64_t row,
                     size_t index) {
  const HeldColumns whole = WholeColumnsIn(held, addressing);
  return absl::FailedPreconditionError(absl::StrCat(
      "layer ", addressing.layer, ": row ", row, " (index ", index,
      ") is not held here, of the layer's ", held.table_rows, " rows these are: ", ToString(held),
      " (", ToString({&whole, 1}), "): ask who holds it"));
}

}  // namespace

bool HoldsAll(const HeldLayer& held) {
  return held.ranges.size() == 1 && held.ranges[0].first == 0 &&
         held.ranges[0].rows == held.table_rows;
}

absl::Status CheckRanges(const HeldLayer& held, uint64_t table_rows) {
  if (held.table_rows != table_rows) {
    return absl::InvalidArgumentError(absl::StrCat("rows held are said to be of a layer of ",
                                                   held.table_rows, " rows, it has ", table_rows));
  }
  uint64_t least = 0;
  for (const RowRange& range : held.ranges) {
    if (range.rows == 0 || range.first < least || range.first >= table_rows ||
        range.rows > table_rows - range.first) {
      return absl::InvalidArgumentError(
          absl::StrCat("rows ", range.first, " and ", range.rows, " in all of ", table_rows,
                       " rows are no range that is held: ranges ascend and lie apart"));
    }
    least = range.first + range.rows + 1;
  }
  return absl::OkStatus();
}

template <typename Id>
absl::Status CheckHeldRows(const HeldLayer& held, const LayerAddressing& addressing,
                           absl::Span<const Id> ids) {
  if (HoldsAll(held)) return absl::OkStatus();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!Holds(held, ids[i])) return NotHeld(held, addressing, ids[i], i);
  }
  return absl::OkStatus();
}

template absl::Status CheckHeldRows(const HeldLayer&, const LayerAddressing&,
                                    absl::Span<const uint32_t>);
template absl::Status CheckHeldRows(const HeldLayer&, const LayerAddressing&,
                                    absl::Span<const uint64_t>);

}  // namespace engram
