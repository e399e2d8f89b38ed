#include "client/token_files/dead_mask_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/token_files/first_bytes.h"
#include "client/token_files/npy_header.h"
#include "memstore/base/status_macros.h"

namespace engram {

absl::StatusOr<DeadMaskReader> DeadMaskReader::Open(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(ByteReader bytes, ByteReader::Open(path));
  ENGRAM_ASSIGN_OR_RETURN(const FileKind kind, LookAtKind(&bytes));
  if (kind != FileKind::kRaw && kind != FileKind::kNpy) {
    return NotNumbers(kind, bytes.name(),
                      "a dead mask is raw bytes, 0 for a live position and 1 for a dead one, as "
                      "mask.astype(\"u1\").tofile(FILE) of numpy writes them; every character of "
                      "text would mark a dead position");
  }
  DeadMaskReader reader(std::move(bytes));
  if (kind == FileKind::kRaw) return reader;
  ENGRAM_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(&reader.bytes_));
  if (header.type != "|b1" && header.type != "|u1" && header.type != "|i1") {
    return absl::InvalidArgumentError(
        absl::StrCat(reader.bytes_.name(), " is a .npy array of '", header.type,
                     "', and a dead mask is bool ('|b1'), uint8 ('|u1') or int8 ('|i1'): save it "
                     "with numpy.save(FILE, mask.astype(\"u1\"))"));
  }
  reader.left_ = header.elements;
  return reader;
}

absl::StatusOr<size_t> DeadMaskReader::Read(uint8_t* out, size_t count) {
  if (!left_) return bytes_.Read(out, count);
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(count, *left_));
  ENGRAM_ASSIGN_OR_RETURN(const size_t got, bytes_.Read(out, wanted));
  *left_ -= got;
  if (got < wanted) {
    return absl::InvalidArgumentError(absl::StrCat(bytes_.name(),
                                                   " is cut off: its header says that ", *left_,
                                                   " more marks come; is it whole?"));
  }
  if (*left_ > 0) return got;
  ENGRAM_ASSIGN_OR_RETURN(const absl::string_view beyond, bytes_.Peek(1));
  if (beyond.empty()) return got;
  return absl::InvalidArgumentError(absl::StrCat(
      bytes_.name(), " holds more than the marks of its header; is it one .npy file?"));
}

}  // namespace engram
