// Reading and writing large files past the page cache: with direct I/O where the file system has
// it, else through the cache, with what was passed dropped from it again. So a table of any size
// neither fills the machine's memory nor waits for its write-back.
//
// A file is shared freely between threads; a PageBuffer belongs to one thread at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/os/posix_file.h"

namespace engram {

// What direct I/O asks of offsets, lengths and memory; every common device is content with a page.
inline constexpr uint64_t kDirectAlignment = 4096;

// Page-aligned memory that grows, and keeps what it has for the next use. Contents are lost by
// growing.
class PageBuffer {
 public:
  // At least `bytes` long, rounded up to whole pages, or huge pages where it is as long as one.
  absl::Span<std::byte> Reserve(uint64_t bytes);

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte[], Free> data_;
  uint64_t bytes_ = 0;
};

class DirectReader {
 public:
  // A regular file. NOT_FOUND and the like name the path.
  static absl::StatusOr<DirectReader> Open(const std::string& path);
  DirectReader(DirectReader&& other) noexcept;  // not while another thread reads

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }
  // Bytes [offset, offset + length), which lie in the file, read to `buffer`; the span is good
  // until the buffer's next use. DATA_LOSS when the file was cut off meanwhile, or the device can't
  // read it.
  absl::StatusOr<absl::Span<const std::byte>> Read(uint64_t offset, uint64_t length,
                                                   PageBuffer& buffer) const;
  // Fills `pages` from `offset` on, all of it in the file. Offset, length and memory are whole
  // pages. The same errors.
  absl::Status ReadPages(uint64_t offset, absl::Span<std::byte> pages) const;

 private:
  DirectReader(std::string path, FileDescriptor file, uint64_t bytes, bool direct)
      : path_(std::move(path)), file_(std::move(file)), bytes_(bytes), direct_(direct) {}
  absl::Status Fill(uint64_t begin, absl::Span<std::byte> pages) const;

  std::string path_;
  FileDescriptor file_;
  uint64_t bytes_;
  // Some file systems take the flag and refuse the reads: the first refusal ends it.
  mutable std::atomic<bool> direct_;
};

class DirectWriter {
 public:
  // A new file of `bytes` bytes, whose room on the device is taken now; ALREADY_EXISTS,
  // RESOURCE_EXHAUSTED when the device is full.
  static absl::StatusOr<DirectWriter> Create(const std::string& path, uint64_t bytes);

  DirectWriter(DirectWriter&& other) noexcept;

  // Page-aligned offset, length and memory.
  absl::Status Write(uint64_t offset, absl::Span<const std::byte> pages) const;
  // Has the file on disk when it returns.
  absl::Status Sync() const;

 private:
  DirectWriter(std::string path, FileDescriptor file, bool direct)
      : path_(std::move(path)), file_(std::move(file)), direct_(direct) {}

  std::string path_;
  FileDescriptor file_;
  mutable std::atomic<bool> direct_;  // off once the file system refused it
};

}  // namespace engram
