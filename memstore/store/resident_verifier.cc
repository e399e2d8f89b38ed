#include "memstore/store/resident_verifier.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/table/manifest.h"
#include "memstore/table/shard_format.h"

namespace engram {

uint64_t ResidentVerifier::BytesOf(const TableSet& set) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < set.held().size(); ++i) {
    const LayerTableSpec& layer = set.manifest().layers[i];
    for (const ShardSpec& shard : layer.shards) {
      for (const BlockRun& run : HeldBlocks(layer, shard, set.held()[i])) {
        bytes += BlockRunBytes(layer, shard, run);
      }
    }
  }
  return bytes;
}

absl::StatusOr<uint64_t> ResidentVerifier::Step(const TableSet& set) {
  uint64_t verified = 0;
  while (verified < kStepBytes && FindBlock(set)) {
    const LayerTableSpec& layer = set.manifest().layers[layer_];
    const ShardSpec& shard = layer.shards[shard_];
    const uint64_t bytes = BlockBytes(layer, shard, block_);
    const std::byte* const rows = set.arena(layer_).data() + shard.first_row * layer.row_bytes +
                                  (BlockOffset(layer, shard, block_) - kShardHeaderBytes);
    if (Crc32c({rows, bytes}) != set.checksums(layer_, shard_)[1 + block_]) return Damaged(set);
    verified += bytes;
    ++block_;
  }
  return verified;
}

bool ResidentVerifier::FindBlock(const TableSet& set) {
  const std::vector<LayerTableSpec>& layers = set.manifest().layers;
  while (layer_ < layers.size()) {
    const LayerTableSpec& layer = layers[layer_];
    if (!shard_begun_) {
      runs_ = HeldBlocks(layer, layer.shards[shard_], set.held()[layer_]);
      run_ = 0;
      block_ = runs_.empty() ? 0 : runs_[0].first;
      shard_begun_ = true;
    }
    if (run_ < runs_.size() && block_ < runs_[run_].end) return true;
    if (++run_ < runs_.size()) {
      block_ = runs_[run_].first;
      continue;
    }
    shard_begun_ = false;
    if (++shard_ < layer.shards.size()) continue;
    shard_ = 0;
    ++layer_;
  }
  return false;
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
