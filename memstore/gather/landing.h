// Where rows land: the one library for that arithmetic, whoever writes the rows (the gather, a
// reply's copy, a device by RDMA).
//
// A place is counted in rows from the buffer's begin. Place p of rows of row_bytes lies at
//   p * row_bytes                                                          without groups,
//   (p / group_rows) * group_stride_bytes + (p % group_rows) * row_bytes   with groups.
// A group is one token's columns: the layer's, or those of a slice, so that rows land
// [tokens, columns] with whatever stride the reader wants. Row i lands at place i, or, where there
// is a list, at place places[i].
//
// Values without ownership, thread-safe, no allocation. Nothing is checked but by Extent: whoever
// takes a landing from outside calls that once, and from then on no sum overflows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace engram {

// The groups alone, for places in memory that is known by offset (RDMA's windows).
struct LandingShape {
  uint64_t group_rows = 0;  // 0: no groups, rows lie back to back
  uint64_t group_stride_bytes = 0;

  // Bytes from place 0 to this one. Cost: a division, but not within the first group.
  constexpr uint64_t OffsetOf(uint64_t place, uint64_t row_bytes) const {
    if (group_rows == 0 || place < group_rows) return place * row_bytes;
    const uint64_t group = place / group_rows;
    return group * group_stride_bytes + (place - group * group_rows) * row_bytes;
  }

  // How many places lie together from this one on, itself counted: to the end of its group.
  // Without groups there is no end, and it is UINT64_MAX. Groups without gaps end as well.
  constexpr uint64_t RunRows(uint64_t place) const {
    if (group_rows == 0) return UINT64_MAX;
    return place < group_rows ? group_rows - place : group_rows - place % group_rows;
  }

  // Whether places 0..rows-1 lie back to back: no groups, one group, or groups without gaps.
  constexpr bool IsOneRun(uint64_t rows, uint64_t row_bytes) const {
    return group_rows == 0 || rows <= group_rows || group_stride_bytes == group_rows * row_bytes;
  }

  // Bytes from place 0 to the end of place rows-1; 0 for no rows. INVALID_ARGUMENT: groups overlap,
  // or the end lies beyond any memory.
  absl::StatusOr<uint64_t> Extent(uint64_t rows, uint64_t row_bytes) const;

  // visit(offset, first, rows) for each run of places [begin, end) that lie together, in order:
  // places first..first+rows-1 begin at that offset. Groups without gaps are one run. Cost: one
  // division in all.
  template <typename Visit>
  void ForEachRun(uint64_t begin, uint64_t end, uint64_t row_bytes, Visit&& visit) const {
    if (begin >= end) return;
    if (IsOneRun(end, row_bytes)) return visit(begin * row_bytes, begin, end - begin);
    const uint64_t gap_bytes = group_stride_bytes - group_rows * row_bytes;
    uint64_t offset = OffsetOf(begin, row_bytes);
    for (uint64_t run = RunRows(begin); begin < end; run = group_rows) {
      run = std::min(run, end - begin);
      visit(offset, begin, run);
      begin += run;
      offset += run * row_bytes + gap_bytes;
    }
  }
};

struct Landing {
  std::byte* data = nullptr;
  uint64_t group_rows = 0;
  uint64_t group_stride_bytes = 0;
  // Empty: row i lands at place i. Else as long as the batch, no place twice; it stays its owner's,
  // and lives as long as the landing is used.
  absl::Span<const uint32_t> places = {};

  constexpr LandingShape shape() const { return {group_rows, group_stride_bytes}; }

  // Where row `row` lands. Cost: a division where there are groups.
  std::byte* PlaceOf(uint64_t row, uint64_t row_bytes) const {
    return data + shape().OffsetOf(places.empty() ? row : places[row], row_bytes);
  }

  // Bytes from `data` to the end of the last place that any of `rows` rows takes: what the buffer
  // must have. INVALID_ARGUMENT: as LandingShape's, or a list of another length than `rows`. Cost:
  // with a list, one look at each place.
  absl::StatusOr<uint64_t> Extent(uint64_t rows, uint64_t row_bytes) const;

  // visit(place, first, rows) for each run of rows [begin, end) that lands together, in order: rows
  // first..first+rows-1 go to `place` back to back. With a list a run ends where the places do not
  // follow each other, too.
  template <typename Visit>
  void ForEachRun(uint64_t begin, uint64_t end, uint64_t row_bytes, Visit&& visit) const {
    if (places.empty()) {
      return shape().ForEachRun(begin, end, row_bytes,
                                [&](uint64_t offset, uint64_t first, uint64_t rows) {
                                  visit(data + offset, first, rows);
                                });
    }
    while (begin < end) {
      const uint64_t place = places[begin];
      const uint64_t most = std::min(end - begin, shape().RunRows(place));
      uint64_t run = 1;
      while (run < most && places[begin + run] == place + run) ++run;
      visit(data + shape().OffsetOf(place, row_bytes), begin, run);
      begin += run;
    }
  }
};

}  // namespace engram
