// One shard file, opened for reading its rows straight into memory.
//
// With direct I/O where the file system has it, so that a table neither passes through the page
// cache nor is kept there a second time; else through the cache, with what was read dropped from
// it. Shared freely between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/table/manifest.h"
#include "memstore/table/posix_file.h"

namespace engram {

class ShardReader {
 public:
  // Opens the shard's file and verifies its size and its header page, whose checksum is
  // `header_crc`. NOT_FOUND when there is no such file; DATA_LOSS when it is not what the manifest
  // says.
  static absl::StatusOr<ShardReader> Open(const std::string& directory, const LayerTableSpec& layer,
                                          const ShardSpec& shard, uint32_t header_crc);

  const std::string& path() const { return path_; }
  // Fills `pages` from the file's `offset` on. Both, and the memory, are whole pages
  // (kShardPageBytes).
  absl::Status Read(uint64_t offset, absl::Span<std::byte> pages) const;

 private:
  ShardReader(std::string path, FileDescriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}
  absl::Status ReadHeader(absl::Span<std::byte> page);

  std::string path_;
  FileDescriptor file_;
  bool direct_ = false;
};

}  // namespace engram
