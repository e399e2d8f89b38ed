#include "memstore/pack/output/layer_writer.h"

#include <cstring>
#include <optional>
#include <utility>

#include "memstore/base/check.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"

namespace engram {

// A shard while it is written. Threads write different units of it.
struct LayerWriter::OpenShard {
  OpenShard(std::optional<DirectWriter> file, const ShardSpec& shard, uint64_t units)
      : writer(std::move(file)), checksums(shard), units_left(units) {}

  std::optional<DirectWriter> writer;  // absent where the rows stay
  ShardChecksums checksums;
  std::atomic<uint64_t> units_left;
};

LayerWriter::LayerWriter(std::string directory, LayerTableSpec layer,
                         const LayerWriterOptions& options)
    : directory_(std::move(directory)),
      layer_(std::move(layer)),
      options_(options),
      units_(options.shard_bytes, layer_),
      kept_(layer_.shards.size()),
      open_(layer_.shards.size()) {}

void LayerWriter::Keep(FinishedShard shard) {
  layer_.shards[shard.shard].checksum_file_sha256 = std::move(shard.checksum_file_sha256);
  kept_[shard.shard] = true;
  MutexLock lock(mutex_);
  ++finished_;
  for (PendingSideFile& file : shard.side_files) side_files_.push_back(std::move(file));
}

std::vector<uint64_t> LayerWriter::UnitsToWrite() const {
  std::vector<uint64_t> units;
  for (size_t shard = 0; shard < kept_.size(); ++shard) {
    if (kept_[shard]) continue;
    for (uint64_t i = 0; i < units_.of_shard(shard); ++i) {
      units.push_back(units_.first_of_shard(shard) + i);
    }
  }
  return units;
}

size_t LayerWriter::finished() const {
  MutexLock lock(mutex_);
  return finished_;
}

std::vector<PendingSideFile> LayerWriter::TakeSideFiles() {
  MutexLock lock(mutex_);
  return std::move(side_files_);
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
    open_[index] = std::make_shared<OpenShard>(std::move(writer), shard, units_.of_shard(index));
  }
  return open_[index];
}

absl::Status LayerWriter::WriteUnit(uint64_t number, const RowFill& fill, PageBuffer& buffer) {
  const ShardUnit unit = units_.At(number);
  ENGRAM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenShard> open, Open(unit.shard));
  const absl::Span<std::byte> pages = buffer.Reserve(unit.bytes).first(unit.bytes);
  if (absl::Status filled = fill(unit.first_row, pages.first(unit.row_bytes)); !filled.ok()) {
    input_failed_ = true;
    return filled;
  }
  std::memset(pages.data() + unit.row_bytes, 0, unit.bytes - unit.row_bytes);
  open->checksums.Take(layer_, unit, pages);
  if (open->writer) ENGRAM_RETURN_IF_ERROR(open->writer->Write(unit.offset, pages));
  // The others' checksums are seen by whoever takes the last unit: acquire and release in one.
  const uint64_t left = open->units_left.fetch_sub(1);
  ENGRAM_CHECK(left > 0, "a unit was written to a shard that has all of its units");
  if (left == 1) return FinishShard(unit.shard, *open);
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
  std::vector<PendingSideFile> side_files;
  if (options_.page_checksums) {
    ENGRAM_ASSIGN_OR_RETURN(PendingSideFile file,
                            WritePageChecksums(directory_, shard, open.checksums));
    side_files.push_back(std::move(file));
  }
  // Last of a shard's files: where it is, the shard is whole (found_shards.h).
  const absl::string_view checksums = AsText(open.checksums.blocks);
  shard.checksum_file_sha256 = Sha256Hex(checksums);
  ENGRAM_RETURN_IF_ERROR(WriteNewFileDurably(JoinPath(directory_, shard.checksum_file), checksums));
  MutexLock lock(mutex_);
  for (PendingSideFile& file : side_files) side_files_.push_back(std::move(file));
  ++finished_;
  open_[index] = nullptr;
  return absl::OkStatus();
}

}  // namespace engram
