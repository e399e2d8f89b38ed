#include "memstore/pack/output/shard_plan.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/page_crc.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

// Whole multiples of kShardRowMultiple of about `bytes`, at least one.
uint64_t RowsOfAbout(uint64_t bytes, uint32_t row_bytes) {
  const uint64_t rows = bytes / row_bytes / kShardRowMultiple * kShardRowMultiple;
  return std::max(rows, kShardRowMultiple);
}

uint64_t UnitRows(uint64_t shard_bytes, uint32_t row_bytes) {
  return RowsOfAbout(std::min(kTargetUnitBytes, shard_bytes), row_bytes);
}

uint64_t UnitsPerShard(uint64_t shard_bytes, uint32_t row_bytes) {
  return std::max<uint64_t>(1, shard_bytes / row_bytes / UnitRows(shard_bytes, row_bytes));
}

}  // namespace

void PlanShards(uint64_t shard_bytes, LayerTableSpec& layer) {
  const uint64_t shard_rows =
      UnitsPerShard(shard_bytes, layer.row_bytes) * UnitRows(shard_bytes, layer.row_bytes);
  layer.shards.clear();
  for (uint64_t row = 0; row < layer.rows; row += shard_rows) {
    const std::string stem = absl::StrCat("layer", absl::Dec(layer.layer, absl::kZeroPad2), "-",
                                          absl::Dec(layer.shards.size(), absl::kZeroPad5));
    ShardSpec shard;
    shard.file = stem + ".rows";
    shard.checksum_file = stem + kChecksumsSuffix;
    shard.first_row = row;
    shard.rows = std::min(shard_rows, layer.rows - row);
    shard.block_rows = ChooseBlockRows(layer.row_bytes);
    shard.file_bytes = ShardFileBytes(shard.rows, layer.row_bytes);
    layer.shards.push_back(std::move(shard));
  }
}

LayerUnits::LayerUnits(uint64_t shard_bytes, const LayerTableSpec& layer)
    : layer_(&layer),
      unit_rows_(UnitRows(shard_bytes, layer.row_bytes)),
      units_per_shard_(UnitsPerShard(shard_bytes, layer.row_bytes)) {}

uint64_t LayerUnits::of_shard(size_t shard) const {
  return (layer_->shards[shard].rows + unit_rows_ - 1) / unit_rows_;
}

ShardUnit LayerUnits::At(uint64_t unit) const {
  ShardUnit at;
  at.shard = unit / units_per_shard_;
  const ShardSpec& shard = layer_->shards[at.shard];
  at.first_row = unit * unit_rows_;
  at.rows = std::min(unit_rows_, shard.first_row + shard.rows - at.first_row);
  at.first_block = (at.first_row - shard.first_row) / shard.block_rows;
  at.offset = BlockOffset(*layer_, shard, at.first_block);
  at.row_bytes = at.rows * layer_->row_bytes;
  const bool last = at.first_row + at.rows == shard.first_row + shard.rows;
  at.bytes = last ? shard.file_bytes - at.offset : at.row_bytes;
  return at;
}

ShardChecksums::ShardChecksums(const ShardSpec& shard)
    : blocks(1 + ShardBlocks(shard)), pages(shard.file_bytes / kShardPageBytes) {}

void ShardChecksums::TakeHeader(absl::Span<const std::byte> header) {
  blocks[0] = Crc32cOfPages(header, absl::MakeSpan(pages).first(1));
}

void ShardChecksums::Take(const LayerTableSpec& layer, const ShardUnit& unit,
                          absl::Span<const std::byte> bytes) {
  const ShardSpec& shard = layer.shards[unit.shard];
  const absl::Span<uint32_t> words =
      absl::MakeSpan(pages).subspan(unit.offset / kShardPageBytes, unit.bytes / kShardPageBytes);
  const bool blocks_are_pages = uint64_t{shard.block_rows} * layer.row_bytes % kShardPageBytes == 0;
  uint64_t at = 0;
  for (uint64_t block = unit.first_block; at < bytes.size(); ++block) {
    const absl::Span<const std::byte> now = bytes.subspan(at, BlockBytes(layer, shard, block));
    // One pass for both; rows of an odd width take two, the second one out of the cache.
    blocks[1 + block] =
        blocks_are_pages
            ? Crc32cOfPages(now, words.subspan(at / kShardPageBytes, now.size() / kShardPageBytes))
            : Crc32c(now);
    at += now.size();
  }
  if (!blocks_are_pages) Crc32cOfPages(bytes, words);
}

absl::string_view AsText(const std::vector<uint32_t>& words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint32_t)};
}

absl::StatusOr<PendingSideFile> WritePageChecksums(const std::string& directory,
                                                   const ShardSpec& shard,
                                                   const ShardChecksums& checksums) {
  const std::string body = PageChecksumsBody(checksums.pages);
  PendingSideFile side_file;
  side_file.file = PageChecksumsFile(shard);
  side_file.kind = kPageChecksumsKind;
  side_file.body_sha256 = Sha256Hex(body);
  side_file.body_bytes = body.size();
  const std::string no_set(64, '0');
  const std::string head =
      SideFileHead(side_file.kind, no_set, side_file.body_sha256, side_file.body_bytes);
  ENGRAM_RETURN_IF_ERROR(
      WriteNewFileDurably(JoinPath(directory, side_file.file), absl::StrCat(head, body)));
  return side_file;
}

absl::Status CompleteSideFile(const std::string& directory, const PendingSideFile& side_file,
                              absl::string_view set_id) {
  const std::string path = JoinPath(directory, side_file.file);
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_WRONLY));
  const std::string head =
      SideFileHead(side_file.kind, set_id, side_file.body_sha256, side_file.body_bytes);
  ENGRAM_RETURN_IF_ERROR(
      WriteFully(file, 0, {reinterpret_cast<const std::byte*>(head.data()), head.size()}, path));
  if (fsync(file.get()) != 0) return PosixError("sync", path);
  return absl::OkStatus();
}

}  // namespace engram
