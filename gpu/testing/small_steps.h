// For tests of the worker side: a small set of a real family, and ragged steps over it whose rows
// prove themselves.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gpu/prefetch/prefetcher.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"
#include "memstore/store/table_set.h"

namespace engram::testing {

// DeepSeek-V4.1's shape (layers 1 and 14, 24 columns of 264 bytes) with few rows; packed and loaded
// once a process. The test's data holds the V4.1 token map.
std::shared_ptr<const TableSet> SmallV41();
// Where SmallV41 was packed.
std::string SmallV41Directory();

// A batch: sequences of any lengths at any places, some tokens dead.
struct SmallStep {
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> dead;
  std::vector<std::vector<RowId>> row_ids;  // a layer: [tokens][columns]

  Step Request(MonotonicTime deadline) const {
    return {.sequences = sequences, .token_ids = token_ids, .dead = dead, .deadline = deadline};
  }
  uint32_t tokens() const { return static_cast<uint32_t>(token_ids.size()); }
  // The row ids of the layer at `index` that a slice has of them; null: all.
  std::vector<RowId> SliceIds(size_t index, const ColumnSlice* slice) const;
  // Whether the rows of the layer at `index`, back to back, are those of row_ids, or of the slice
  // of them.
  bool RowsAreExact(size_t index, const std::byte* rows, const ColumnSlice* slice = nullptr) const;
};

// Slices of SmallV41's two layers, and what they are: a rank's heads, one run, single columns, runs
// that begin and end within orders, all, and none of one layer or both.
struct NamedSlices {
  const char* name;
  std::vector<ColumnSlice> slices;
};
std::vector<NamedSlices> SmallSlices();

// 1 to max_tokens tokens. Decode steps, drafts and prefill chunks, some at a sequence's start.
SmallStep RandomStep(uint32_t max_tokens, std::mt19937& random);

}  // namespace engram::testing
