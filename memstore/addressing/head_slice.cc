#include "memstore/addressing/head_slice.h"

#include <array>

#include "absl/strings/str_cat.h"

namespace engram {

static_assert(kMaxOrder - 1 <= ColumnSlice::kMaxRuns, "a run an order");

absl::StatusOr<ColumnSlice> SliceOfHeads(const AddressScheme& scheme, uint32_t first_head,
                                         uint32_t heads) {
  if (uint64_t{first_head} + heads > scheme.heads_per_order) {
    return absl::InvalidArgumentError(
        absl::StrCat(heads, " heads from head ", first_head, " on: ", scheme.family, " has ",
                     scheme.heads_per_order, " heads an order, counted from 0"));
  }
  std::array<ColumnRun, kMaxOrder - 1> runs;
  const uint32_t orders = scheme.max_order - 1;
  for (uint32_t order = 0; order < orders; ++order) {
    runs[order] = {.first_column = order * scheme.heads_per_order + first_head, .columns = heads};
  }
  return ColumnSlice::Create(absl::MakeConstSpan(runs).first(orders), scheme.Columns());
}

}  // namespace engram
