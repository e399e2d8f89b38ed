#include "memstore/store/held_blocks.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/partition/held_check.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/shard_layout.h"

namespace engram {
namespace {

uint64_t PageOf(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t block) {
  return BlockOffset(layer, shard, block) / kShardPageBytes;
}

// Where a run of blocks begins and ends in the shard's file.
uint64_t Begin(const LayerTableSpec& layer, const ShardSpec& shard, const BlockRun& run) {
  return BlockOffset(layer, shard, run.first);
}
uint64_t End(const LayerTableSpec& layer, const ShardSpec& shard, const BlockRun& run) {
  return BlockOffset(layer, shard, run.end - 1) + BlockBytes(layer, shard, run.end - 1);
}

absl::StatusOr<std::vector<HeldColumns>> Columns(const Partition& partition,
                                                 const AddressScheme& scheme) {
  if (const auto* index = std::get_if<PartitionIndex>(&partition)) {
    return ColumnsOf(*index, scheme);
  }
  return ColumnsOf(std::get<std::vector<HeldColumns>>(partition), scheme);
}

}  // namespace

absl::StatusOr<std::vector<HeldLayer>> HeldBy(const std::optional<Partition>& partition,
                                              const Manifest& manifest) {
  if (!partition) {
    std::vector<HeldLayer> held;
    held.reserve(manifest.layers.size());
    for (const LayerTableSpec& layer : manifest.layers) {
      held.push_back({.table_rows = layer.rows, .ranges = {{.first = 0, .rows = layer.rows}}});
    }
    return held;
  }
  const auto columns = Columns(*partition, manifest.scheme);
  if (!columns.ok()) {
    return absl::Status(columns.status().code(), absl::StrCat("table set ", manifest.name, ": ",
                                                              columns.status().message()));
  }
  return RowsOf(*columns, manifest.scheme);
}

uint64_t HeldRowBytes(const Manifest& manifest, absl::Span<const HeldLayer> held) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < held.size(); ++i)
    bytes += HeldRows(held[i]) * manifest.layers[i].row_bytes;
  return bytes;
}

std::string HeldText(const Manifest& manifest, absl::Span<const HeldLayer> held) {
  if (std::all_of(held.begin(), held.end(), HoldsAll)) return "";
  std::vector<HeldColumns> columns;
  columns.reserve(held.size());
  for (size_t i = 0; i < held.size(); ++i) {
    columns.push_back(WholeColumnsIn(held[i], manifest.scheme.layers[i]));
  }
  const bool alike = std::all_of(columns.begin(), columns.end(), [&](const HeldColumns& layer) {
    return layer.runs == columns[0].runs;
  });
  if (!alike) return ToString(columns);
  const std::string first = ToString(absl::MakeConstSpan(columns).first(1));
  return first.substr(first.find(": ") + 2);
}

std::vector<BlockRun> HeldBlocks(const LayerTableSpec& layer, const ShardSpec& shard,
                                 const HeldLayer& held) {
  std::vector<BlockRun> runs;
  const uint64_t shard_end = shard.first_row + shard.rows;
  for (const RowRange& range : held.ranges) {
    const uint64_t begin = std::max(range.first, shard.first_row);
    const uint64_t end = std::min(range.first + range.rows, shard_end);
    if (begin >= end) continue;
    const BlockRun run = {.first = (begin - shard.first_row) / shard.block_rows,
                          .end = (end - 1 - shard.first_row) / shard.block_rows + 1};
    const bool joins = !runs.empty() && (run.first <= runs.back().end ||
                                         (End(layer, shard, runs.back()) - 1) / kShardPageBytes >=
                                             PageOf(layer, shard, run.first));
    if (joins) {
      runs.back().end = std::max(runs.back().end, run.end);
    } else {
      runs.push_back(run);
    }
  }
  return runs;
}

uint64_t BlockRunBytes(const LayerTableSpec& layer, const ShardSpec& shard, const BlockRun& run) {
  return End(layer, shard, run) - Begin(layer, shard, run);
}

std::vector<MemoryPiece> HeldPieces(const LayerTableSpec& layer, const HeldLayer& held) {
  std::vector<MemoryPiece> pieces;
  for (const ShardSpec& shard : layer.shards) {
    // The header is left out in memory, where shards begin on a page.
    const uint64_t before = shard.first_row * layer.row_bytes;
    for (const BlockRun& run : HeldBlocks(layer, shard, held)) {
      const uint64_t begin =
          before + Begin(layer, shard, run) / kShardPageBytes * kShardPageBytes - kShardHeaderBytes;
      const uint64_t end =
          before +
          (End(layer, shard, run) + kShardPageBytes - 1) / kShardPageBytes * kShardPageBytes -
          kShardHeaderBytes;
      if (!pieces.empty() && pieces.back().offset + pieces.back().bytes == begin) {
        pieces.back().bytes = end - pieces.back().offset;
      } else {
        pieces.push_back({.offset = begin, .bytes = end - begin});
      }
    }
  }
  return pieces;
}

}  // namespace engram
