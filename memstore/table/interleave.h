// Joins tensors row by row: a row's bytes of the first, then those of the second, and so on.
//
// Stateless, thread-safe. Cost: a memory copy's; the widths of DeepSeek-V4.1 (256 and 8) are copied
// by fixed sizes (memstore/pack/table_benchmark.cc).
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace engram {

// Rows of `row_bytes` each, one after the other.
struct PartRows {
  const std::byte* rows = nullptr;
  uint32_t row_bytes = 0;
};

// `out` gets as many rows as it has room for; each part holds at least as many. There is at least
// one part, and none has 0 bytes a row.
void InterleaveRows(absl::Span<const PartRows> parts, absl::Span<std::byte> out);

}  // namespace engram
