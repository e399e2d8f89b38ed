#include "memstore/pack/output/found_shards.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "memstore/base/check.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

uint64_t ChecksumFileBytes(const ShardSpec& shard) {
  return (1 + ShardBlocks(shard)) * sizeof(uint32_t);
}

bool IsRegularOf(const std::string& path, uint64_t bytes) {
  struct stat stat;
  return lstat(path.c_str(), &stat) == 0 && S_ISREG(stat.st_mode) &&
         static_cast<uint64_t>(stat.st_size) == bytes;
}

// Written again by nobody, so also on disk again by nobody but this.
absl::Status SyncFile(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const FileDescriptor file, OpenFile(path, O_RDONLY));
  if (fsync(file.get()) != 0) return PosixError("sync", path);
  return absl::OkStatus();
}

}  // namespace

bool MayBeWhole(const std::string& directory, const ShardSpec& shard) {
  return IsRegularOf(JoinPath(directory, shard.file), shard.file_bytes) &&
         IsRegularOf(JoinPath(directory, shard.checksum_file), ChecksumFileBytes(shard));
}

// A shard while it is read. Threads read different units of it.
struct FoundShards::OpenShard {
  OpenShard(const ShardSpec& shard, uint64_t units) : checksums(shard), units_left(units) {}

  std::optional<DirectReader> reader;  // absent: it could not be opened
  std::string expected;                // the checksum file's bytes
  ShardChecksums checksums;            // of what is there
  std::atomic<bool> unreadable{false};
  std::atomic<uint64_t> units_left;
};

FoundShards::FoundShards(std::string directory, const LayerTableSpec& layer,
                         const LayerUnits& units, const std::vector<size_t>& shards,
                         bool page_checksums)
    : directory_(std::move(directory)),
      layer_(layer),
      units_(units),
      page_checksums_(page_checksums),
      open_(layer.shards.size()) {
  for (const size_t shard : shards) {
    for (uint64_t i = 0; i < units.of_shard(shard); ++i) {
      numbers_.push_back(units.first_of_shard(shard) + i);
    }
  }
}

FoundShards::~FoundShards() = default;

std::vector<FinishedShard> FoundShards::TakeWhole() {
  MutexLock lock(mutex_);
  return std::move(whole_);
}

std::shared_ptr<FoundShards::OpenShard> FoundShards::Open(size_t index) {
  MutexLock lock(mutex_);
  if (open_[index] != nullptr) return open_[index];
  const ShardSpec& shard = layer_.shards[index];
  auto open = std::make_shared<OpenShard>(shard, units_.of_shard(index));
  absl::StatusOr<std::string> expected =
      ReadWholeFile(JoinPath(directory_, shard.checksum_file), ChecksumFileBytes(shard));
  absl::StatusOr<DirectReader> reader = DirectReader::Open(JoinPath(directory_, shard.file));
  if (expected.ok() && reader.ok() && reader->bytes() == shard.file_bytes) {
    open->expected = *std::move(expected);
    open->reader.emplace(*std::move(reader));
  }
  open_[index] = open;
  return open;
}

absl::StatusOr<uint64_t> FoundShards::CheckUnit(uint64_t i, PageBuffer& buffer) {
  const ShardUnit unit = units_.At(numbers_[i]);
  const std::shared_ptr<OpenShard> open = Open(unit.shard);
  if (open->reader && !open->unreadable) {
    const auto pages = open->reader->Read(unit.offset, unit.bytes, buffer);
    if (pages.ok()) open->checksums.Take(layer_, unit, *pages);
    if (!pages.ok()) open->unreadable = true;
  }
  // The others' checksums are seen by whoever takes the last unit: acquire and release in one.
  const uint64_t left = open->units_left.fetch_sub(1);
  ENGRAM_CHECK(left > 0, "a unit of a found shard was read twice");
  if (left > 1) return 0;
  {
    MutexLock lock(mutex_);
    open_[unit.shard] = nullptr;
  }
  const ShardSpec& shard = layer_.shards[unit.shard];
  if (!open->reader || open->unreadable) return 0;
  const std::vector<std::byte> header = MakeShardHeader(layer_, shard);
  const auto there = open->reader->Read(0, header.size(), buffer);
  if (!there.ok() || !std::equal(there->begin(), there->end(), header.begin())) return 0;
  open->checksums.TakeHeader(header);
  if (AsText(open->checksums.blocks) != open->expected) return 0;
  ENGRAM_RETURN_IF_ERROR(Finish(unit.shard, *open));
  return shard.rows * layer_.row_bytes;
}

absl::Status FoundShards::Finish(size_t index, OpenShard& open) {
  const ShardSpec& shard = layer_.shards[index];
  ENGRAM_RETURN_IF_ERROR(SyncFile(JoinPath(directory_, shard.checksum_file)));
  FinishedShard finished;
  finished.shard = index;
  finished.checksum_file_sha256 = Sha256Hex(open.expected);
  if (page_checksums_) {
    ENGRAM_ASSIGN_OR_RETURN(PendingSideFile file,
                            WritePageChecksums(directory_, shard, open.checksums));
    finished.side_files.push_back(std::move(file));
  }
  MutexLock lock(mutex_);
  whole_.push_back(std::move(finished));
  return absl::OkStatus();
}

}  // namespace engram
