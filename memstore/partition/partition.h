// What one store holds of a table set: columns of each layer, and the row ranges that they are.
//
// A partition is written K/N, the K-th of N (K from 0): heads [K*H/N, (K+1)*H/N) of every order and
// layer, of H heads an order. Where N does not divide H, a layer's C columns are taken head by head
// (all orders of head 0, then of head 1, ...), and K/N is places [K*C/N, (K+1)*C/N) of those,
// rounded down. So the N partitions of a set are disjoint and are all of it together. Or it is
// written as columns, LAYER:FIRST-LAST,... (columns from 0, both ends included; a layer that is not
// named has none).
//
// Plain values and pure functions: no I/O, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// Rows [first, first + rows) of a layer.
struct RowRange {
  uint64_t first = 0;
  uint64_t rows = 0;
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

// What of one layer is held: ranges that ascend and neither overlap nor touch.
struct HeldLayer {
  uint64_t table_rows = 0;  // of the whole layer
  std::vector<RowRange> ranges;
  friend bool operator==(const HeldLayer&, const HeldLayer&) = default;
};

// Columns of one layer: runs that ascend and neither overlap nor touch. Unlike a ColumnSlice, as
// many as there are.
struct HeldColumns {
  uint32_t layer = 0;  // the model's layer number
  std::vector<ColumnRun> runs;
  friend bool operator==(const HeldColumns&, const HeldColumns&) = default;
};

// The K-th of N.
struct PartitionIndex {
  uint32_t index = 0;
  uint32_t count = 1;
  friend bool operator==(const PartitionIndex&, const PartitionIndex&) = default;
};

// More would be less than a column each in the widest layer that there may be
// (kMaxOrder - 1) * kMaxHeadsPerOrder.
inline constexpr uint32_t kMaxPartitions = (kMaxOrder - 1) * kMaxHeadsPerOrder;

// "K/N". INVALID_ARGUMENT: it is not of that form, K is not below N (K counts from 0), or N is 0 or
// above kMaxPartitions.
absl::StatusOr<PartitionIndex> ParsePartitionIndex(absl::string_view text);

// "LAYER:FIRST-LAST,LAYER:COLUMN,...", in any order; a layer may be named several times.
// INVALID_ARGUMENT: it is not of that form, or columns of one layer overlap. Ascending by layer.
absl::StatusOr<std::vector<HeldColumns>> ParsePartitionColumns(absl::string_view text);

// The columns of a partition, one entry for each layer of the scheme, in its order.
// INVALID_ARGUMENT: there are more partitions than columns, so that one would hold nothing.
absl::StatusOr<std::vector<HeldColumns>> ColumnsOf(const PartitionIndex& partition,
                                                   const AddressScheme& scheme);

// `columns` with an entry for each layer of the scheme, in its order. INVALID_ARGUMENT names a
// layer that the scheme has not got, columns beyond a layer's, or that nothing is held.
absl::StatusOr<std::vector<HeldColumns>> ColumnsOf(absl::Span<const HeldColumns> columns,
                                                   const AddressScheme& scheme);

// The row ranges of the columns, one entry a layer; `columns` has one for each of the scheme's
// layers, in its order, as ColumnsOf makes them.
std::vector<HeldLayer> RowsOf(absl::Span<const HeldColumns> columns, const AddressScheme& scheme);

// The columns of a layer that lie whole in `held`; a column of which only some rows are held is
// left out.
HeldColumns WholeColumnsIn(const HeldLayer& held, const LayerAddressing& addressing);

// Whether row `row` is held. Cost: a binary search over the ranges.
bool Holds(const HeldLayer& held, uint64_t row);
uint64_t HeldRows(const HeldLayer& held);  // how many

// "[0, 40), [80, 120)", for messages; "none" where there are none.
std::string ToString(const HeldLayer& held);
// "layer 3: columns 0..1, 8..9", layer after layer, for messages.
std::string ToString(absl::Span<const HeldColumns> columns);

}  // namespace engram
