// The gather loop: rows of one table, by id, into a landing buffer (landing.h).
//
// Reads from memory at random, so it lives on software prefetch and fixed row sizes; each call
// takes the kernel for its row width and the machine's instruction set. Stateless and thread-safe;
// never allocates. Ids must have been checked (CheckRowIds) and the landing too (Landing::Extent):
// the loop does not look again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/gather/landing.h"

namespace engram {

// Farther ahead, what was prefetched first would be gone from the first cache when it is copied.
inline constexpr uint32_t kMostAheadRows = 64;

// The rows of a table that are held here, as the loop sees them: row ids
// first_row..first_row+rows-1, row r at base + (r - first_row) * row_bytes. Ids are always those of
// the whole table. first_row + rows <= 2^63.
struct GatherTable {
  const std::byte* base = nullptr;
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
  uint64_t first_row = 0;
  // How many rows before its turn a row is prefetched; 0: the width's default (gather_tuning.h).
  uint32_t ahead_rows = 0;
};

// INVALID_ARGUMENT names the first id that is not one of the table's rows, its place, and the rows
// that there are. Id is uint32_t or uint64_t (RowId).
template <typename Id>
absl::Status CheckRowIds(const GatherTable& table, absl::Span<const Id> ids);

template <typename Id>
void Gather(const GatherTable& table, absl::Span<const Id> ids, const Landing& landing);

// Rows [first, first + count) of the batch alone, to the places they have in the whole batch: how
// several threads share one (parallel_gather.h). Different ranges may run at the same time.
template <typename Id>
void GatherRange(const GatherTable& table, absl::Span<const Id> ids, size_t first, size_t count,
                 const Landing& landing);

}  // namespace engram
