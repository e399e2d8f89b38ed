// Synthetic rows, for demos, tests and benchmarks: any row proves itself.
//
// 8-byte word w of row r of layer L is splitmix64_mix((L << 48) ^ (w << 40) ^ r), little-endian,
// cut to row_bytes (proto/FORMATS.md, "Synthetic sets"). Thread-safe; no allocation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// The rule has 16 bits for a layer's number: layers past this would have the rows of others.
inline constexpr uint32_t kMaxSyntheticLayer = 0xFFFF;

// `layer` is at most kMaxSyntheticLayer throughout.
// Fills `row` (row_bytes long) with row `row_id` of `layer`.
void SyntheticRow(uint32_t layer, RowId row_id, absl::Span<std::byte> row);
// Fills `rows` with whole rows of `row_bytes`, from `first_row` on. Cost: about 3 GB/s a core.
void SyntheticRows(uint32_t layer, RowId first_row, uint32_t row_bytes, absl::Span<std::byte> rows);
// Whether `row` is row `row_id` of `layer`.
bool IsSyntheticRow(uint32_t layer, RowId row_id, absl::Span<const std::byte> row);

}  // namespace engram
