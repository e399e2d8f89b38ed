#include "memstore/store/shard_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/table/shard_format.h"

namespace engram {
namespace {

constexpr char kRestore[] = "; copy or pack the table set again";

struct alignas(kShardPageBytes) Page {
  std::byte bytes[kShardPageBytes];
};

bool SetDirect(const FileDescriptor& file, bool direct) {
  const int flags = fcntl(file.get(), F_GETFL);
  if (flags < 0) return false;
  return fcntl(file.get(), F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

}  // namespace

absl::StatusOr<ShardReader> ShardReader::Open(const std::string& directory,
                                              const LayerTableSpec& layer, const ShardSpec& shard,
                                              uint32_t header_crc) {
  std::string path = JoinPath(directory, shard.file);
  // Not to hang on a named pipe, which RegularFileBytes refuses.
  absl::StatusOr<FileDescriptor> file = OpenFile(path, O_RDONLY | O_NONBLOCK);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(
        absl::StrCat("the table set lacks ", path, ", the rows ", shard.first_row, " to ",
                     shard.first_row + shard.rows - 1, " of layer ", layer.layer, kRestore));
  }
  if (!file.ok()) return file.status();
  const absl::StatusOr<uint64_t> bytes = RegularFileBytes(*file, path);
  if (!bytes.ok()) return bytes.status();
  if (*bytes != shard.file_bytes) {
    return absl::DataLossError(
        absl::StrCat(path, " has ", *bytes, " bytes, the manifest says ", shard.file_bytes,
                     ": it was ", *bytes < shard.file_bytes ? "cut off" : "added to", kRestore));
  }

  ShardReader reader(std::move(path), *std::move(file));
  Page page;
  if (absl::Status status = reader.ReadHeader(page.bytes); !status.ok()) return status;
  const std::vector<std::byte> expected = MakeShardHeader(layer, shard);
  if (!std::equal(expected.begin(), expected.end(), page.bytes) ||
      Crc32c(page.bytes) != header_crc) {
    return absl::DataLossError(
        absl::StrCat(reader.path_, ": the header (bytes 0 to ", kShardHeaderBytes - 1,
                     ") is not the one that the manifest asks for: the file was ",
                     "changed or damaged", kRestore));
  }
  return reader;
}

// The header is the first thing read, and so shows whether direct I/O works: some file systems take
// the flag and refuse the read.
absl::Status ShardReader::ReadHeader(absl::Span<std::byte> page) {
  direct_ = SetDirect(file_, true);
  absl::Status status = ReadFully(file_, 0, page, path_);
  if (!direct_ || status.ok() || absl::IsDataLoss(status)) return status;
  SetDirect(file_, false);
  direct_ = false;
  return ReadFully(file_, 0, page, path_);
}

absl::Status ShardReader::Read(uint64_t offset, absl::Span<std::byte> pages) const {
  if (absl::Status status = ReadFully(file_, offset, pages, path_); !status.ok()) return status;
  if (!direct_) {
    posix_fadvise(file_.get(), static_cast<off_t>(offset), static_cast<off_t>(pages.size()),
                  POSIX_FADV_DONTNEED);
  }
  return absl::OkStatus();
}

}  // namespace engram
