// A dead mask's bytes, one for each token id: raw, or a .npy array of bool, uint8 or int8.
//
// Single-threaded. Memory: at most what was looked at to tell text from bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "client/token_files/byte_reader.h"

namespace engram {

class DeadMaskReader {
 public:
  // Errors of ByteReader::Open; INVALID_ARGUMENT: text, whose every character would mark a dead
  // position, or an array of another type.
  static absl::StatusOr<DeadMaskReader> Open(const std::string& path);

  // Up to `count` marks; fewer only at the end. INVALID_ARGUMENT when a .npy file is not as long as
  // its header says.
  absl::StatusOr<size_t> Read(uint8_t* out, size_t count);

 private:
  explicit DeadMaskReader(ByteReader bytes) : bytes_(std::move(bytes)) {}

  ByteReader bytes_;
  std::optional<uint64_t> left_;  // where a header says how many
};

}  // namespace engram
