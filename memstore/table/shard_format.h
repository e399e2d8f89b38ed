// The layout of a shard file and of its checksum file (proto/FORMATS.md, "Shard files").
//
// Shard file: a header of one page, then the rows back to back, then zero padding up to a page: so
// every shard can be read with direct I/O, and mapped with its rows on a page boundary. All shards
// of a layer but the last hold a multiple of kShardRowMultiple rows, so the layer's rows can be
// read into one contiguous run of memory, page by page. Checksum file: little-endian CRC32C words:
// the header's, then one a block; its SHA-256 stands in the manifest. The last block covers the
// padding. So every byte of both files is covered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/table/manifest.h"
#include "memstore/table/shard_layout.h"

namespace engram {

// The first 64 bytes of the header page, little-endian; the rest of the page is zero.
struct ShardHeader {
  char magic[8];  // "ENGRSHRD"
  uint32_t version;
  uint32_t header_bytes;
  uint32_t layer;
  uint32_t row_bytes;
  uint64_t first_row;
  uint64_t rows;
  uint32_t block_rows;
  uint32_t reserved[5];
};
static_assert(sizeof(ShardHeader) == 64);

// The header page that belongs to `shard` of `layer`.
std::vector<std::byte> MakeShardHeader(const LayerTableSpec& layer, const ShardSpec& shard);
uint64_t ShardBlocks(const ShardSpec& shard);  // checksummed blocks of rows
// Where block `block` begins in the file, and its bytes, the last one's with the padding.
uint64_t BlockOffset(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t block);
uint64_t BlockBytes(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t block);

// CRC32C (Castagnoli) as in RFC 3720: initial value and final XOR of all ones. Hardware
// instructions.
uint32_t Crc32c(absl::Span<const std::byte> bytes);

// The block size new shards get: the most rows, a power of two up to kShardRowMultiple, that stay
// within kTargetBlockBytes: small enough to name what is damaged, large enough that checksums cost
// nothing.
inline constexpr uint64_t kTargetBlockBytes = 512u << 10;
uint32_t ChooseBlockRows(uint32_t row_bytes);

// At the end of a checksum file's name, as the writer makes it.
inline constexpr char kChecksumsSuffix[] = ".crc32c";

// The checksum file's words after its size and SHA-256 matched the manifest: [0] the header's,
// [1..] the blocks'. DATA_LOSS or NOT_FOUND names the file.
absl::StatusOr<std::vector<uint32_t>> LoadChecksums(const std::string& directory,
                                                    const LayerTableSpec& layer,
                                                    const ShardSpec& shard);

}  // namespace engram
