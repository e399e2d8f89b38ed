#include "memstore/table/shard_format.h"

#include <isa-l.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"

namespace engram {

static_assert(std::endian::native == std::endian::little,
              "headers and words are written as they lie");

namespace {

constexpr char kShardMagic[8] = {'E', 'N', 'G', 'R', 'S', 'H', 'R', 'D'};
constexpr uint32_t kShardVersion = 1;

}  // namespace

std::vector<std::byte> MakeShardHeader(const LayerTableSpec& layer, const ShardSpec& shard) {
  ShardHeader header = {};
  std::memcpy(header.magic, kShardMagic, sizeof(header.magic));
  header.version = kShardVersion;
  header.header_bytes = kShardHeaderBytes;
  header.layer = layer.layer;
  header.row_bytes = layer.row_bytes;
  header.first_row = shard.first_row;
  header.rows = shard.rows;
  header.block_rows = shard.block_rows;
  std::vector<std::byte> page(kShardHeaderBytes);
  std::memcpy(page.data(), &header, sizeof(header));
  return page;
}

uint64_t ShardBlocks(const ShardSpec& shard) {
  return (shard.rows + shard.block_rows - 1) / shard.block_rows;
}

uint64_t BlockOffset(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t block) {
  return kShardHeaderBytes + block * shard.block_rows * layer.row_bytes;
}

uint64_t BlockBytes(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t block) {
  const uint64_t begin = BlockOffset(layer, shard, block);
  const bool last = block + 1 == ShardBlocks(shard);
  return (last ? ShardFileBytes(shard.rows, layer.row_bytes)
               : BlockOffset(layer, shard, block + 1)) -
         begin;
}

uint32_t Crc32c(absl::Span<const std::byte> bytes) {
  // The library takes an int length; a gigabyte at a time stays below it.
  constexpr size_t kStep = size_t{1} << 30;
  uint32_t crc = 0xFFFFFFFF;
  while (!bytes.empty()) {
    const size_t step = std::min(bytes.size(), kStep);
    // The library's pointer is not const, though it only reads.
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
    crc = crc32_iscsi(data, static_cast<int>(step), crc);
    bytes.remove_prefix(step);
  }
  return ~crc;
}

uint32_t ChooseBlockRows(uint32_t row_bytes) {
  const uint64_t rows = std::min(kTargetBlockBytes / row_bytes, kShardRowMultiple);
  return static_cast<uint32_t>(std::bit_floor(rows));
}

absl::StatusOr<std::vector<uint32_t>> LoadChecksums(const std::string& directory,
                                                    const LayerTableSpec& layer,
                                                    const ShardSpec& shard) {
  const std::string path = JoinPath(directory, shard.checksum_file);
  const uint64_t want_bytes = (1 + ShardBlocks(shard)) * sizeof(uint32_t);
  absl::StatusOr<std::string> bytes = ReadWholeFile(path, want_bytes);
  if (absl::IsNotFound(bytes.status())) {
    return absl::NotFoundError(absl::StrCat("the table set lacks ", path, ", the checksums of ",
                                            shard.file, ": copy or pack it again"));
  }
  if (IsFileTooLong(bytes.status()) || (bytes.ok() && bytes->size() != want_bytes)) {
    return absl::DataLossError(absl::StrCat(path, " must have ", want_bytes,
                                            " bytes (the checksums of layer ", layer.layer, ", ",
                                            shard.file, "): copy or pack the table set again"));
  }
  if (!bytes.ok()) return bytes.status();
  const std::string digest = Sha256Hex(*bytes);
  if (digest != shard.checksum_file_sha256) {
    return absl::DataLossError(absl::StrCat(
        path, " has the SHA-256 ", digest, ", the manifest says ", shard.checksum_file_sha256,
        ": it was changed or damaged; copy or pack the table set again"));
  }
  std::vector<uint32_t> words(want_bytes / sizeof(uint32_t));
  std::memcpy(words.data(), bytes->data(), want_bytes);
  return words;
}

}  // namespace engram
