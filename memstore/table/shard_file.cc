#include "memstore/table/shard_file.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

constexpr char kFix[] = "; copy or pack the table set again";
constexpr char kLinkedFix[] =
    "; link the checkpoint again (engram pack --link), or pack it (engram pack --checkpoint)";

}  // namespace

absl::StatusOr<ShardFile> ShardFile::Open(const std::string& directory, const LayerTableSpec& layer,
                                          const ShardSpec& shard) {
  absl::StatusOr<std::vector<uint32_t>> checksums = LoadChecksums(directory, layer, shard);
  if (!checksums.ok()) return checksums.status();
  const std::string path = JoinPath(directory, shard.file);
  absl::StatusOr<DirectReader> reader = DirectReader::Open(path);
  if (absl::IsNotFound(reader.status())) {
    return absl::NotFoundError(
        absl::StrCat("the table set lacks ", path, ", the rows ", shard.first_row, " to ",
                     shard.first_row + shard.rows - 1, " of layer ", layer.layer, kFix));
  }
  if (!reader.ok()) return reader.status();
  if (reader->bytes() != shard.file_bytes) {
    return absl::DataLossError(absl::StrCat(
        path, " has ", reader->bytes(), " bytes, the manifest says ", shard.file_bytes, ": it was ",
        reader->bytes() < shard.file_bytes ? "cut off" : "added to", kFix));
  }
  ShardFile file(layer, shard, *std::move(reader), nullptr, *std::move(checksums));
  if (absl::Status status = file.CheckHeader(); !status.ok()) return status;
  return file;
}

absl::StatusOr<ShardFile> ShardFile::OpenLinked(const std::string& directory,
                                                const LayerTableSpec& layer, const ShardSpec& shard,
                                                const JoinedRows& rows) {
  ENGRAM_ASSIGN_OR_RETURN(std::vector<uint32_t> checksums, LoadChecksums(directory, layer, shard));
  if (Crc32c(MakeShardHeader(layer, shard)) != checksums[0]) {
    return absl::DataLossError(absl::StrCat(
        JoinPath(directory, shard.checksum_file), ": the header's checksum is not of the header ",
        "that the manifest asks for: it was changed or damaged", kLinkedFix));
  }
  return ShardFile(layer, shard, std::nullopt, &rows, std::move(checksums));
}

absl::Status ShardFile::CheckHeader() const {
  ENGRAM_CHECK(reader_.has_value(), "what is linked has no file of its own");
  PageBuffer buffer;
  const auto header = reader_->Read(0, kShardHeaderBytes, buffer);
  if (!header.ok()) return header.status();
  const std::vector<std::byte> expected = MakeShardHeader(*layer_, *shard_);
  const auto differs = std::mismatch(header->begin(), header->end(), expected.begin()).first;
  if (differs != header->end()) {
    return absl::DataLossError(
        absl::StrCat(reader_->path(), ": the header (bytes 0..", kShardHeaderBytes - 1,
                     ") is not the one that the manifest asks for, from byte ",
                     differs - header->begin(), " on: it was changed or damaged", kFix));
  }
  if (Crc32c(*header) != checksums_[0]) {
    return absl::DataLossError(absl::StrCat(
        reader_->path(), ": the header's checksum is not that of ", shard_->checksum_file, kFix));
  }
  return absl::OkStatus();
}

absl::Status ShardFile::CheckBlock(uint64_t block, absl::Span<const std::byte> bytes) const {
  if (Crc32c(bytes) == checksums_[1 + block]) return absl::OkStatus();
  const uint64_t first_row = shard_->first_row + block * shard_->block_rows;
  const uint64_t end_row =
      std::min(first_row + shard_->block_rows, shard_->first_row + shard_->rows);
  if (linked_rows_ != nullptr) {
    return absl::DataLossError(absl::StrCat(
        WhereLinked(*linked_rows_, first_row, end_row), ": the rows ", first_row, "..", end_row - 1,
        " of layer ", layer_->layer, " (block ", block, " of ", shard_->checksum_file,
        ") do not have their checksum: the checkpoint was changed or damaged since it was linked",
        kLinkedFix));
  }
  ENGRAM_CHECK(reader_.has_value(), "what is linked has no file of its own");
  const uint64_t offset = BlockOffset(*layer_, *shard_, block);
  return absl::DataLossError(
      absl::StrCat(reader_->path(), ": block ", block, " (bytes ", offset, "..",
                   offset + BlockBytes(*layer_, *shard_, block) - 1, ", rows ", first_row, "..",
                   end_row - 1, " of layer ", layer_->layer,
                   ") does not have its checksum: it was changed or damaged", kFix));
}

absl::Status LinkedBlockReader::Read(const ShardFile& file, uint64_t first_block,
                                     uint64_t end_block, absl::Span<std::byte> out) {
  const JoinedRows* rows = file.linked_rows();
  ENGRAM_CHECK(rows != nullptr, "a shard with a file of its own is read as a linked one");
  if (rows != rows_) {
    rows_ = rows;
    reader_ = std::make_unique<JoinedRowReader>(*rows);
  }
  const ShardSpec& shard = file.shard();
  const uint64_t first_row = first_block * shard.block_rows;
  const uint64_t end_row = std::min(end_block * shard.block_rows, shard.rows);
  const uint64_t row_bytes = (end_row - first_row) * file.layer().row_bytes;
  ENGRAM_RETURN_IF_ERROR(reader_->Read(shard.first_row + first_row, out.first(row_bytes)));
  std::memset(out.data() + row_bytes, 0, out.size() - row_bytes);
  return absl::OkStatus();
}

size_t ShardFiles::Add(const LayerTableSpec& layer, size_t layer_index, const ShardSpec& shard,
                       uint64_t shares) {
  Slot& slot = slots_.emplace_back();
  slot.layer = &layer;
  slot.shard = &shard;
  if (links_ != nullptr) slot.linked_rows = &links_->layers[layer_index].rows;
  MutexLock lock(slot.mutex);
  slot.shares_left = shares;
  return slots_.size() - 1;
}

absl::StatusOr<const ShardFile*> ShardFiles::BeginShare(size_t number) {
  Slot& slot = slots_[number];
  MutexLock lock(slot.mutex);
  ENGRAM_CHECK(slot.shares_left > 0, "a share was begun of a shard whose shares are all done");
  if (slot.file == nullptr) {
    ENGRAM_ASSIGN_OR_RETURN(
        ShardFile file,
        slot.linked_rows == nullptr
            ? ShardFile::Open(directory_, *slot.layer, *slot.shard)
            : ShardFile::OpenLinked(directory_, *slot.layer, *slot.shard, *slot.linked_rows));
    slot.file = std::make_unique<ShardFile>(std::move(file));
  }
  return slot.file.get();
}

void ShardFiles::EndShare(size_t number) {
  Slot& slot = slots_[number];
  MutexLock lock(slot.mutex);
  ENGRAM_CHECK(slot.shares_left > 0, "a shard's share was ended twice");
  if (--slot.shares_left == 0) slot.file.reset();
}

}  // namespace engram
