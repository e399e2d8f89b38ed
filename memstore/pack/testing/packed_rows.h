// What was packed, read by the shards' layout and not by a loader's code.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "memstore/os/posix_file.h"
#include "memstore/table/manifest.h"
#include "memstore/table/shard_layout.h"

namespace engram::testing_checkpoint {

// All rows of a layer of the set in `directory`.
inline std::string PackedRows(const std::filesystem::path& directory, const LayerTableSpec& layer) {
  constexpr uint64_t kMostBytes = 1u << 30;  // tests pack small tables
  std::string rows;
  for (const ShardSpec& shard : layer.shards) {
    const std::string file = ReadWholeFile((directory / shard.file).string(), kMostBytes).value();
    rows += file.substr(kShardHeaderBytes, shard.rows * layer.row_bytes);
  }
  return rows;
}

}  // namespace engram::testing_checkpoint
