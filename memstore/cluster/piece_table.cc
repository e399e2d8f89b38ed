#include "memstore/cluster/piece_table.h"

#include <algorithm>
#include <bit>

#include "memstore/base/check.h"

namespace engram {

PieceTable::PieceTable(absl::Span<const uint64_t> first_rows, absl::Span<const uint16_t> pieces)
    : first_rows_(first_rows.begin(), first_rows.end()), pieces_(pieces.begin(), pieces.end()) {
  ENGRAM_CHECK(first_rows.size() == pieces.size() + 1, "runs of rows without an end");
  const uint64_t rows = first_rows.back();
  if (rows == 0) return;
  uint64_t shortest = rows;
  for (size_t i = 0; i < pieces.size(); ++i) {
    shortest = std::min(shortest, first_rows[i + 1] - first_rows[i]);
  }
  // No bucket is longer than a run, so that it has one bound at most, unless those would be too
  // many.
  shift_ = shortest == 0 ? 0 : static_cast<uint32_t>(std::bit_width(shortest)) - 1;
  while ((rows - 1) >> shift_ >= kMaxBuckets) ++shift_;
  size_t run = 0;
  for (uint64_t first = 0; first < rows; first += uint64_t{1} << shift_) {
    while (first_rows_[run + 1] <= first) ++run;
    Bucket& bucket = buckets_.emplace_back();
    bucket.pieces = {pieces_[run], pieces_[run]};
    const uint64_t last = std::min(first + ((uint64_t{1} << shift_) - 1), rows - 1);
    if (first_rows_[run + 1] > last) continue;
    bucket.bound = first_rows_[run + 1];
    bucket.pieces[1] = first_rows_[run + 2] > last ? pieces_[run + 1] : kSearch;
  }
}

// The last run that begins at the row or before it.
uint32_t PieceTable::Search(RowId row) const {
  const auto behind = std::upper_bound(first_rows_.begin(), first_rows_.end() - 1, row);
  return pieces_[static_cast<size_t>(behind - first_rows_.begin()) - 1];
}

}  // namespace engram
