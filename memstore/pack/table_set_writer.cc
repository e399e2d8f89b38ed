#include "memstore/pack/table_set_writer.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/mutex.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/direct_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

// Whole multiples of kShardRowMultiple of about `bytes`, at least one: units and shards begin on a
// page and on a block.
uint64_t RowsOfAbout(uint64_t bytes, uint32_t row_bytes) {
  const uint64_t rows = bytes / row_bytes / kShardRowMultiple * kShardRowMultiple;
  return std::max(rows, kShardRowMultiple);
}

// A shard while it is written. Threads write different units of it.
struct OpenShard {
  OpenShard(DirectWriter file, uint64_t blocks, uint64_t units)
      : writer(std::move(file)), checksums(1 + blocks), units_left(units) {}

  DirectWriter writer;
  std::vector<uint32_t> checksums;  // [0] the header's
  std::atomic<uint64_t> units_left;
};

// One layer's rows on their way into shards. Thread-safe: a unit is one thread's.
class LayerWriter {
 public:
  LayerWriter(std::string directory, LayerTableSpec layer, uint64_t shard_bytes)
      : directory_(std::move(directory)),
        layer_(std::move(layer)),
        unit_rows_(RowsOfAbout(std::min(kTargetUnitBytes, shard_bytes), layer_.row_bytes)) {
    PlanShards(shard_bytes);
    open_.resize(layer_.shards.size());
  }

  uint64_t units() const { return (layer_.rows + unit_rows_ - 1) / unit_rows_; }
  uint64_t unit_bytes(uint64_t unit) const { return UnitRows(unit) * layer_.row_bytes; }
  // Makes, checksums and writes a unit's rows; whoever writes a shard's last one finishes the
  // shard.
  absl::Status WriteUnit(uint64_t unit, const RowFill& fill, PageBuffer& buffer);
  // The layer with its shards, once every unit is written.
  LayerTableSpec Finish() { return std::move(layer_); }

 private:
  void PlanShards(uint64_t shard_bytes);
  uint64_t UnitRows(uint64_t unit) const {
    return std::min(unit_rows_, layer_.rows - unit * unit_rows_);
  }
  absl::StatusOr<std::shared_ptr<OpenShard>> Open(size_t index);
  absl::Status FinishShard(size_t index, OpenShard& open);

  const std::string directory_;
  LayerTableSpec layer_;
  const uint64_t unit_rows_;
  uint64_t units_per_shard_ = 1;
  Mutex mutex_;
  // [shards], null before and after.
  std::vector<std::shared_ptr<OpenShard>> open_ ABSL_GUARDED_BY(mutex_);
};

void LayerWriter::PlanShards(uint64_t shard_bytes) {
  units_per_shard_ = std::max<uint64_t>(1, shard_bytes / layer_.row_bytes / unit_rows_);
  const uint64_t shard_rows = units_per_shard_ * unit_rows_;
  for (uint64_t row = 0; row < layer_.rows; row += shard_rows) {
    const std::string stem = absl::StrCat("layer", absl::Dec(layer_.layer, absl::kZeroPad2), "-",
                                          absl::Dec(layer_.shards.size(), absl::kZeroPad5));
    ShardSpec shard;
    shard.file = stem + ".rows";
    shard.checksum_file = stem + ".crc32c";
    shard.first_row = row;
    shard.rows = std::min(shard_rows, layer_.rows - row);
    shard.block_rows = ChooseBlockRows(layer_.row_bytes);
    shard.file_bytes = ShardFileBytes(shard.rows, layer_.row_bytes);
    layer_.shards.push_back(std::move(shard));
  }
}

absl::StatusOr<std::shared_ptr<OpenShard>> LayerWriter::Open(size_t index) {
  MutexLock lock(mutex_);
  if (open_[index] == nullptr) {
    const ShardSpec& shard = layer_.shards[index];
    ENGRAM_ASSIGN_OR_RETURN(
        DirectWriter writer,
        DirectWriter::Create(JoinPath(directory_, shard.file), shard.file_bytes));
    open_[index] = std::make_shared<OpenShard>(std::move(writer), ShardBlocks(shard),
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

  uint64_t at = 0;
  for (uint64_t block = first_block; at < bytes; ++block) {
    const uint64_t block_bytes = BlockBytes(layer_, shard, block);
    open->checksums[1 + block] = Crc32c(pages.subspan(at, block_bytes));
    at += block_bytes;
  }
  ENGRAM_RETURN_IF_ERROR(open->writer.Write(begin, pages));
  // The others' checksums are seen by whoever takes the last unit: acquire and release in one.
  const uint64_t left = open->units_left.fetch_sub(1);
  ENGRAM_CHECK(left > 0, "a unit was written to a shard that has all of its units");
  if (left == 1) return FinishShard(index, *open);
  return absl::OkStatus();
}

absl::Status LayerWriter::FinishShard(size_t index, OpenShard& open) {
  ShardSpec& shard = layer_.shards[index];
  const std::vector<std::byte> header = MakeShardHeader(layer_, shard);
  open.checksums[0] = Crc32c(header);
  PageBuffer buffer;
  const absl::Span<std::byte> page = buffer.Reserve(header.size()).first(header.size());
  std::memcpy(page.data(), header.data(), header.size());
  ENGRAM_RETURN_IF_ERROR(open.writer.Write(0, page));
  ENGRAM_RETURN_IF_ERROR(open.writer.Sync());
  const absl::string_view checksums(reinterpret_cast<const char*>(open.checksums.data()),
                                    open.checksums.size() * sizeof(uint32_t));
  shard.checksum_file_sha256 = Sha256Hex(checksums);
  absl::Status status = WriteNewFileDurably(JoinPath(directory_, shard.checksum_file), checksums);
  MutexLock lock(mutex_);
  open_[index] = nullptr;
  return status;
}

}  // namespace

absl::StatusOr<TableSetWriter> TableSetWriter::Begin(const std::string& output,
                                                     const TableSetWriterOptions& options) {
  absl::StatusOr<StagingDirectory> staging = StagingDirectory::Begin(output);
  if (!staging.ok()) return staging.status();
  return TableSetWriter(std::move(*staging), options);
}

absl::Status TableSetWriter::CheckRoom(uint64_t bytes) const {
  struct statvfs fs;
  if (statvfs(staging_.path().c_str(), &fs) != 0) return PosixError("look at", staging_.path());
  const uint64_t free_bytes = static_cast<uint64_t>(fs.f_bavail) * fs.f_frsize;
  if (free_bytes >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the table set takes ", bytes, " bytes, the device of ", staging_.path(),
                   " has ", free_bytes, " free: make room or choose another output"));
}

absl::Status TableSetWriter::AddTokenMap(absl::string_view bytes) {
  return WriteNewFileDurably(JoinPath(staging_.path(), kTokenMapFile), bytes);
}

absl::Status TableSetWriter::AddLayer(LayerTableSpec layer, const RowFillFactory& factory,
                                      ProgressCount& progress) {
  LayerWriter writer(staging_.path(), std::move(layer), options_.shard_bytes);
  absl::Status status =
      DoInOrder(writer.units(), ChooseTableThreads(options_.threads), [&]() -> Worker {
        auto buffer = std::make_shared<PageBuffer>();
        return [&writer, &progress, buffer, fill = factory()](uint64_t unit) {
          absl::Status written = writer.WriteUnit(unit, fill, *buffer);
          if (written.ok()) progress.Add(writer.unit_bytes(unit));
          return written;
        };
      });
  if (status.ok()) layers_.push_back(writer.Finish());
  return status;
}

absl::StatusOr<Manifest> TableSetWriter::Publish(const std::string& name,
                                                 const AddressScheme& scheme) {
  Manifest manifest;
  manifest.name = name;
  manifest.scheme = scheme;
  manifest.layers = layers_;
  absl::StatusOr<Manifest> finished = FinishManifest(std::move(manifest));
  if (!finished.ok()) return finished;
  absl::Status status =
      WriteNewFileDurably(JoinPath(staging_.path(), kManifestFile), finished->text);
  if (status.ok()) {
    status = WriteNewFileDurably(JoinPath(staging_.path(), kManifestDigestFile),
                                 absl::StrCat(finished->id, "\n"));
  }
  if (status.ok()) status = staging_.Publish();
  if (!status.ok()) return status;
  return finished;
}

}  // namespace engram
