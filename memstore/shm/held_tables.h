// What of its tables an owner lends a client, where it holds a part of a set: the rows that are
// held, and the pieces of each table that there is memory for, in which those rows lie. It travels
// in a sealed memfd of its own (protocol.h).
//
// Little-endian u64 words, for each layer in the manifest's order: the numbers of its row ranges
// and of its pieces, then a first row and a number of rows for each range, then an offset in the
// table and a number of bytes for each piece. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"
#include "memstore/partition/partition.h"

namespace engram {

// Far above the ranges of the columns of any layers that a set may have.
inline constexpr uint64_t kMostHeldTablesBytes = 32u << 20;

struct HeldTable {
  HeldLayer rows;
  std::vector<MemoryPiece> pieces;
  friend bool operator==(const HeldTable&, const HeldTable&) = default;
};

std::string WriteHeldTables(absl::Span<const HeldTable> tables);

// A table of the manifest, as the reader of `bytes` knows it.
struct WholeTable {
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
};
// What came from elsewhere. DATA_LOSS: it is not of so many tables, ranges are none of the table's
// (CheckRanges), or one does not lie in one piece. Whether pieces are those of a table's memory is
// for MapSealedPieces to say.
absl::StatusOr<std::vector<HeldTable>> ReadHeldTables(absl::string_view bytes,
                                                      absl::Span<const WholeTable> tables);

}  // namespace engram
