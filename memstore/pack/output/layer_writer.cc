#include "memstore/pack/output/layer_writer.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/table/page_crc.h"
#include "memstore/table/shard_format.h"
#include "memstore/table/side_file.h"
#include "memstore/table/side_files.h"

namespace engram {
namespace {

// Whole multiples of kShardRowMultiple of about `bytes`, at least one: units and shards begin on a
// page and on a block.
uint64_t RowsOfAbout(uint64_t bytes, uint32_t row_bytes) {
  const uint64_t rows = bytes / row_bytes / kShardRowMultiple * kShardRowMultiple;
  return std::max(rows, kShardRowMultiple);
}

uint64_t UnitRowsOf(uint64_t shard_bytes, uint32_t row_bytes) {
  return RowsOfAbout(std::min(kTargetUnitBytes, shard_bytes), row_bytes);
}

uint64_t UnitsPerShard(uint64_t shard_bytes, uint32_t row_bytes) {
  return std::max<uint64_t>(1, shard_bytes / row_bytes / UnitRowsOf(shard_bytes, row_bytes));
}

absl::string_view AsText(const std::vector<uint32_t>& words) {
  return {reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint32_t)};
}

// A shard's checksums as they come. Threads fill those of different units.
struct ShardChecksums {
  explicit ShardChecksums(const ShardSpec& shard)
      : blocks(1 + ShardBlocks(shard)), pages(shard.file_bytes / kShardPageBytes) {}

  void TakeHeader(absl::Span<const std::byte> header) {
    blocks[0] = Crc32cOfPages(header, absl::MakeSpan(pages).first(1));
  }
  // `bytes` are blocks from `first_block` on, which begins on a page, up to a page's end.
  void Take(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t first_block,
            absl::Span<const std::byte> bytes);

  std::vector<uint32_t> blocks;  // [0] the header's
  std::vector<uint32_t> pages;   // [0] the header's
};

void ShardChecksums::Take(const LayerTableSpec& layer, const ShardSpec& shard, uint64_t first_block,
                          absl::Span<const std::byte> bytes) {
  const absl::Span<uint32_t> page_words = absl::MakeSpan(pages).subspan(
      BlockOffset(layer, shard, first_block) / kShardPageBytes, bytes.size() / kShardPageBytes);
  const bool blocks_are_pages = uint64_t{shard.block_rows} * layer.row_bytes % kShardPageBytes == 0;
  uint64_t at = 0;
  for (uint64_t block = first_block; at < bytes.size(); ++block) {
    const absl::Span<const std::byte> now = bytes.subspan(at, BlockBytes(layer, shard, block));
    // One pass for both; rows of an odd width take two, the second one out of the cache.
    blocks[1 + block] = blocks_are_pages
                            ? Crc32cOfPages(now, page_words.subspan(at / kShardPageBytes,
                                                                    now.size() / kShardPageBytes))
                            : Crc32c(now);
    at += now.size();
  }
  if (!blocks_are_pages) Crc32cOfPages(bytes, page_words);
}

}  // namespace

// A shard while it is written. Threads write different units of it.
struct LayerWriter::OpenShard {
  OpenShard(std::optional<DirectWriter> file, const ShardSpec& shard, uint64_t units)
      : writer(std::move(file)), checksums(shard), units_left(units) {}

  std::optional<DirectWriter> writer;  // absent where the rows stay
  ShardChecksums checksums;
  std::atomic<uint64_t> units_left;
};

void PlanShards(uint64_t shard_bytes, LayerTableSpec& layer) {
  const uint64_t shard_rows =
      UnitsPerShard(shard_bytes, layer.row_bytes) * UnitRowsOf(shard_bytes, layer.row_bytes);
  layer.shards.clear();
  for (uint64_t row = 0; row < layer.rows; row += shard_rows) {
    const std::string stem = absl::StrCat("layer", absl::Dec(layer.layer, absl::kZeroPad2), "-",
                                          absl::Dec(layer.shards.size(), absl::kZeroPad5));
    ShardSpec shard;
    shard.file = stem + ".rows";
    shard.checksum_file = stem + ".crc32c";
    shard.first_row = row;
    shard.rows = std::min(shard_rows, layer.rows - row);
    shard.block_rows = ChooseBlockRows(layer.row_bytes);
    shard.file_bytes = ShardFileBytes(shard.rows, layer.row_bytes);
    layer.shards.push_back(std::move(shard));
  }
}

LayerWriter::LayerWriter(std::string directory, LayerTableSpec layer,
                         const LayerWriterOptions& options)
    : directory_(std::move(directory)),
      layer_(std::move(layer)),
      options_(options),
      unit_rows_(UnitRowsOf(options.shard_bytes, layer_.row_bytes)),
      units_per_shard_(UnitsPerShard(options.shard_bytes, layer_.row_bytes)),
      open_(layer_.shards.size()) {}

std::vector<PendingSideFile> LayerWriter::TakeSideFiles() {
  MutexLock lock(mutex_);
  return std::move(side_files_);
}

uint64_t LayerWriter::UnitRows(uint64_t unit) const {
  return std::min(unit_rows_, layer_.rows - unit * unit_rows_);
}

absl::StatusOr<std::shared_ptr<LayerWriter::OpenShard>> LayerWriter::Open(size_t index) {
  MutexLock lock(mutex_);
  if (open_[index] == nullptr) {
    const ShardSpec& shard = layer_.shards[index];
    std::optional<DirectWriter> writer;
    if (!options_.rows_stay) {
      ENGRAM_ASSIGN_OR_RETURN(
          DirectWriter file,
          DirectWriter::Create(JoinPath(directory_, shard.file), shard.file_bytes));
      writer.emplace(std::move(file));
    }
    open_[index] = std::make_shared<OpenShard>(std::move(writer), shard,
                                               (shard.rows + unit_rows_ - 1) / unit_rows_);
  }
  return open_[index];
}

absl::Status LayerWriter::WriteUnit(uint64_t unit, const RowFill& fill, PageBuffer& buffer) {
  const size_t index = unit / units_per_shard_;
  const ShardSpec& shard = layer_.shards[index];
  ENGRAM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenShard> open, Open(index));

  const RowId first_row = unit * unit_rows_;
  const uint64_t first_block = (first_row - shard.first_row) / shard.block_rows;
  const uint64_t begin = BlockOffset(layer_, shard, first_block);
  const uint64_t row_bytes = unit_bytes(unit);
  const bool last = first_row + UnitRows(unit) == shard.first_row + shard.rows;
  const uint64_t bytes = last ? shard.file_bytes - begin : row_bytes;
  const absl::Span<std::byte> pages = buffer.Reserve(bytes).first(bytes);
  ENGRAM_RETURN_IF_ERROR(fill(first_row, pages.first(row_bytes)));
  std::memset(pages.data() + row_bytes, 0, bytes - row_bytes);

  open->checksums.Take(layer_, shard, first_block, pages);
  if (open->writer) ENGRAM_RETURN_IF_ERROR(open->writer->Write(begin, pages));
  // The others' checksums are seen by whoever takes the last unit: acquire and release in one.
  const uint64_t left = open->units_left.fetch_sub(1);
  ENGRAM_CHECK(left > 0, "a unit was written to a shard that has all of its units");
  if (left == 1) return FinishShard(index, *open);
  return absl::OkStatus();
}

absl::Status LayerWriter::FinishShard(size_t index, OpenShard& open) {
  ShardSpec& shard = layer_.shards[index];
  const std::vector<std::byte> header = MakeShardHeader(layer_, shard);
  open.checksums.TakeHeader(header);
  if (open.writer) {
    PageBuffer buffer;
    const absl::Span<std::byte> page = buffer.Reserve(header.size()).first(header.size());
    std::memcpy(page.data(), header.data(), header.size());
    ENGRAM_RETURN_IF_ERROR(open.writer->Write(0, page));
    ENGRAM_RETURN_IF_ERROR(open.writer->Sync());
  }
  const absl::string_view checksums = AsText(open.checksums.blocks);
  shard.checksum_file_sha256 = Sha256Hex(checksums);
  ENGRAM_RETURN_IF_ERROR(WriteNewFileDurably(JoinPath(directory_, shard.checksum_file), checksums));
  std::optional<PendingSideFile> side_file;
  if (options_.page_checksums) {
    ENGRAM_ASSIGN_OR_RETURN(side_file, WritePageChecksums(shard, open));
  }
  MutexLock lock(mutex_);
  if (side_file) side_files_.push_back(*std::move(side_file));
  open_[index] = nullptr;
  return absl::OkStatus();
}

absl::StatusOr<PendingSideFile> LayerWriter::WritePageChecksums(const ShardSpec& shard,
                                                                const OpenShard& open) const {
  const std::string body = PageChecksumsBody(open.checksums.pages);
  PendingSideFile side_file;
  side_file.file = PageChecksumsFile(shard);
  side_file.kind = kPageChecksumsKind;
  side_file.body_sha256 = Sha256Hex(body);
  side_file.body_bytes = body.size();
  // A head that is whole and of no set, until the set has an id.
  const std::string no_set(64, '0');
  ENGRAM_RETURN_IF_ERROR(WriteNewFileDurably(
      JoinPath(directory_, side_file.file),
      absl::StrCat(SideFileHead(side_file.kind, no_set, side_file.body_sha256, body.size()),
                   body)));
  return side_file;
}

}  // namespace engram
