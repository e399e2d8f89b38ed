// What of a table set a store holds in memory: the rows of its partition, and the checksummed
// blocks that these lie in.
//
// A block is read, verified and kept whole, also where only some of its rows are held: what is in
// memory can be verified again at any time. That is at most two blocks for each run of rows, a
// megabyte of a set as packed; rows beside those of the partition count as not held.
//
// Plain values and pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"
#include "memstore/partition/partition.h"
#include "memstore/table/manifest.h"

namespace engram {

// As an operator asks for it.
using Partition = std::variant<PartitionIndex, std::vector<HeldColumns>>;

// The rows of each layer, in the manifest's order; without a partition all of them. Errors of
// ColumnsOf, with the set's name.
absl::StatusOr<std::vector<HeldLayer>> HeldBy(const std::optional<Partition>& partition,
                                              const Manifest& manifest);
// In bytes: of the rows themselves.
uint64_t HeldRowBytes(const Manifest& manifest, absl::Span<const HeldLayer> held);

// For people: "columns 0..1, 8..9" where these are held of every layer, else layer by layer; empty
// where all rows are held.
std::string HeldText(const Manifest& manifest, absl::Span<const HeldLayer> held);

// Blocks [first, end) of a shard.
struct BlockRun {
  uint64_t first = 0;
  uint64_t end = 0;
  friend bool operator==(const BlockRun&, const BlockRun&) = default;
};
// Those of the shard that have held rows in them, and what lies between two on one page of 4 KiB:
// runs ascend and no two share a page.
std::vector<BlockRun> HeldBlocks(const LayerTableSpec& layer, const ShardSpec& shard,
                                 const HeldLayer& held);
// Padding included.
uint64_t BlockRunBytes(const LayerTableSpec& layer, const ShardSpec& shard, const BlockRun& run);

// Where the held blocks of a layer lie in its memory, in whole pages of 4 KiB, ascending and apart.
std::vector<MemoryPiece> HeldPieces(const LayerTableSpec& layer, const HeldLayer& held);

}  // namespace engram
