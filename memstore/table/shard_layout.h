// Sizes of the parts of a shard file (shard_format.h has the whole layout). Constants and
// arithmetic alone.
#pragma once

#include <cstdint>

namespace engram {

inline constexpr uint64_t kShardPageBytes = 4096;
inline constexpr uint64_t kShardHeaderBytes = kShardPageBytes;
inline constexpr uint64_t kShardRowMultiple = 4096;
// A reader holds a block at a time: bounds what a hostile manifest can make it allocate.
inline constexpr uint64_t kMaxBlockBytes = 16u << 20;
// Bounds a shard's checksum file to 64 MiB.
inline constexpr uint64_t kMaxShardBlocks = (16u << 20) - 1;

// Header + rows + padding up to a page. Fits for `rows` up to kMaxLayerRows (scheme.h) of up to
// 4096 bytes.
constexpr uint64_t ShardFileBytes(uint64_t rows, uint32_t row_bytes) {
  const uint64_t bytes = kShardHeaderBytes + rows * row_bytes;
  return (bytes + kShardPageBytes - 1) / kShardPageBytes * kShardPageBytes;
}

}  // namespace engram
