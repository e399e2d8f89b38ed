// Which piece of a cluster map a row is of, without a search: by the row's high bits, and whether
// it lies before or behind the one bound that the rows with these bits may have between them.
//
// Where there are several bounds (columns of a few rows beside those of millions) they are
// searched. Immutable once made, so thread-safe. At most 64 KiB. Cost: two loads and no branch that
// depends on the row, where nothing is searched.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"

namespace engram {

class PieceTable {
 public:
  PieceTable() = default;
  // Run i of rows begins at first_rows[i] and is of pieces[i], a number below kSearch; first_rows
  // has one entry more, the layer's rows. Both ascend from 0 without gaps.
  PieceTable(absl::Span<const uint64_t> first_rows, absl::Span<const uint16_t> pieces);

  // `row` is one of the layer's.
  uint32_t PieceOf(RowId row) const {
    const Bucket& bucket = buckets_[row >> shift_];
    // By place, for a condition would be a jump that no processor foresees.
    const uint32_t piece = bucket.pieces[row < bucket.bound ? 0 : 1];
    return piece != kSearch ? piece : Search(row);
  }

  static constexpr uint16_t kSearch = UINT16_MAX;
  static constexpr uint64_t kMaxBuckets = 4096;

 private:
  struct Bucket {
    uint64_t bound = UINT64_MAX;
    std::array<uint16_t, 2> pieces{};  // before it, and from it on
  };

  uint32_t Search(RowId row) const;

  uint32_t shift_ = 0;
  std::vector<Bucket> buckets_;
  std::vector<uint64_t> first_rows_;
  std::vector<uint16_t> pieces_;
};

}  // namespace engram
