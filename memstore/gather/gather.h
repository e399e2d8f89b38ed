// The gather loop: rows of one table, by id, into a landing buffer.
//
// Reads from memory at random, so it lives on software prefetch and fixed row sizes; each call
// takes the kernel for its row width and the machine's instruction set. Stateless and thread-safe;
// never allocates. Ids must have been checked (CheckRowIds): the loop does not look again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// Where rows land: row i at data + (i / group_rows) * group_stride_bytes + (i % group_rows) *
// row_bytes. A group is one token's columns in dense placement; group_rows 0 means one group: back
// to back.
struct Landing {
  std::byte* data = nullptr;
  uint64_t group_rows = 0;
  uint64_t group_stride_bytes = 0;
};

// One table as the loop sees it: row r at base + r * row_bytes.
struct GatherTable {
  const std::byte* base = nullptr;
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
};

// INVALID_ARGUMENT names the first id that is not below table.rows and its place.
// Id is uint32_t or uint64_t (RowId).
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
