#include "memstore/gguf/byte_reader.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

constexpr uint64_t kBufferBytes = 256u << 10;

}  // namespace

absl::StatusOr<uint64_t> GgufByteReader::Number(uint64_t bytes, absl::string_view what) {
  uint64_t number = 0;
  for (uint64_t i = 0; i < bytes; ++i) {
    if (position_ - buffer_begin_ >= buffer_.size()) ENGRAM_RETURN_IF_ERROR(Fill(what));
    number |= static_cast<uint64_t>(buffer_[position_ - buffer_begin_]) << (8 * i);
    ++position_;
  }
  return number;
}

absl::StatusOr<std::string> GgufByteReader::Text(uint64_t max_bytes, absl::string_view what) {
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t bytes, Number(8, what));
  if (bytes > left()) return CutOff(what);
  if (bytes > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path_, ": ", what, " has ", bytes, " bytes, at most ", max_bytes,
                     " are read: the file is damaged, or no model"));
  }
  std::string text(bytes, '\0');
  for (char& byte : text) {
    ENGRAM_ASSIGN_OR_RETURN(const uint64_t read, Number(1, what));
    byte = static_cast<char>(read);
  }
  return text;
}

absl::Status GgufByteReader::Skip(uint64_t bytes, absl::string_view what) {
  if (bytes > left()) return CutOff(what);
  position_ += bytes;
  return absl::OkStatus();
}

absl::Status GgufByteReader::CutOff(absl::string_view what) const {
  return absl::DataLossError(absl::StrCat(path_, " is cut off, or damaged: it has ", file_bytes_,
                                          " bytes and ends within ", what, "; download it again"));
}

absl::Status GgufByteReader::Fill(absl::string_view what) {
  if (left() == 0) return CutOff(what);
  buffer_.resize(std::min<uint64_t>(kBufferBytes, left()));
  buffer_begin_ = position_;
  return ReadFully(file_, position_, absl::MakeSpan(buffer_), path_);
}

}  // namespace engram
