#include "memstore/store/resident_verifier.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/table/manifest.h"
#include "memstore/table/shard_format.h"

namespace engram {

uint64_t ResidentVerifier::BytesOf(const TableSet& set) {
  uint64_t bytes = 0;
  for (const LayerTableSpec& layer : set.manifest().layers) {
    for (const ShardSpec& shard : layer.shards) bytes += shard.file_bytes - kShardHeaderBytes;
  }
  return bytes;
}

absl::StatusOr<uint64_t> ResidentVerifier::Step(const TableSet& set) {
  uint64_t verified = 0;
  while (verified < kStepBytes && layer_ < set.manifest().layers.size()) {
    const LayerTableSpec& layer = set.manifest().layers[layer_];
    const ShardSpec& shard = layer.shards[shard_];
    const uint64_t bytes = BlockBytes(layer, shard, block_);
    const std::byte* const rows = set.arena(layer_).data() + shard.first_row * layer.row_bytes +
                                  (BlockOffset(layer, shard, block_) - kShardHeaderBytes);
    if (Crc32c({rows, bytes}) != set.checksums(layer_, shard_)[1 + block_]) return Damaged(set);
    verified += bytes;
    Advance(set);
  }
  return verified;
}

void ResidentVerifier::Advance(const TableSet& set) {
  const LayerTableSpec& layer = set.manifest().layers[layer_];
  if (++block_ < ShardBlocks(layer.shards[shard_])) return;
  block_ = 0;
  if (++shard_ < layer.shards.size()) return;
  shard_ = 0;
  ++layer_;
}

absl::Status ResidentVerifier::Damaged(const TableSet& set) const {
  const LayerTableSpec& layer = set.manifest().layers[layer_];
  const ShardSpec& shard = layer.shards[shard_];
  const uint64_t first_row = shard.first_row + block_ * shard.block_rows;
  const uint64_t end_row = std::min(first_row + shard.block_rows, shard.first_row + shard.rows);
  return absl::DataLossError(absl::StrCat(
      "table set ", set.name(), " ", set.id(), ": rows ", first_row, "..", end_row - 1,
      " of layer ", layer.layer, " (block ", block_, " of ", shard.file,
      ") no longer have their checksum in memory, though they had when they were loaded; look for "
      "memory errors of this machine (dmesg, edac-util), then publish it again or another set of "
      "its name, or start engramd again, to load it from its files"));
}

}  // namespace engram
