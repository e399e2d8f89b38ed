// Reads a file's header from its first byte on: numbers, texts, and what is skipped.
//
// One thread's. Memory: one buffer, and the texts that are asked for. Errors name the file and what
// was being read: DATA_LOSS where the file ends in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/os/posix_file.h"

namespace engram {

class GgufByteReader {
 public:
  GgufByteReader(FileDescriptor file, uint64_t file_bytes, std::string path)
      : file_(std::move(file)), file_bytes_(file_bytes), path_(std::move(path)) {}

  uint64_t file_bytes() const { return file_bytes_; }
  uint64_t position() const { return position_; }
  uint64_t left() const { return file_bytes_ - position_; }

  // Little-endian, of `bytes` bytes, 8 at most.
  absl::StatusOr<uint64_t> Number(uint64_t bytes, absl::string_view what);
  // A length and so many bytes; RESOURCE_EXHAUSTED for more than `max_bytes`.
  absl::StatusOr<std::string> Text(uint64_t max_bytes, absl::string_view what);
  absl::Status Skip(uint64_t bytes, absl::string_view what);
  // The file ends within `what`.
  absl::Status CutOff(absl::string_view what) const;

 private:
  absl::Status Fill(absl::string_view what);

  FileDescriptor file_;
  uint64_t file_bytes_;
  std::string path_;
  uint64_t position_ = 0;
  uint64_t buffer_begin_ = 0;  // in the file
  std::vector<std::byte> buffer_;
};

}  // namespace engram
