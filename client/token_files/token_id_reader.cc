#include "client/token_files/token_id_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/token_files/first_bytes.h"
#include "client/token_files/npy_header.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// At a time: memory grows as a file does, not as its header says.
constexpr size_t kReadIds = size_t{1} << 16;

constexpr absl::string_view kWrite =
    "token ids are raw int32, as ids.astype(\"<i4\").tofile(FILE) of numpy writes them, or a .npy "
    "file of them, as numpy.save writes it";

// What can be said of them by their type alone.
absl::string_view Trouble(absl::string_view type) {
  if (absl::StartsWith(type, ">")) return " (big-endian)";
  if (absl::StartsWith(type, "[")) return " (a structured array)";
  if (absl::StartsWith(type, "|O")) return " (Python objects)";
  return "";
}

}  // namespace

std::optional<TokenIdType> ParseTokenIdType(absl::string_view text) {
  if (text == "int32") return TokenIdType::kInt32;
  if (text == "int64") return TokenIdType::kInt64;
  return std::nullopt;
}

absl::Status RefuseWideTokenId(const std::string& name, const WideTokenId& id) {
  return absl::InvalidArgumentError(absl::StrCat(
      name, ": token id ", id.value, " at position ", id.position,
      " is beyond every vocabulary: is it -1 or another mark as unsigned, an image's hash in the "
      "place of its token (mark the position dead), or are these int32 after all?"));
}

absl::StatusOr<TokenIdReader> TokenIdReader::Open(const std::string& path, const Options& options) {
  ENGRAM_ASSIGN_OR_RETURN(ByteReader bytes, ByteReader::Open(path));
  return From(std::move(bytes), options);
}

absl::StatusOr<TokenIdReader> TokenIdReader::From(ByteReader bytes, const Options& options) {
  TokenIdReader reader(std::move(bytes));
  ENGRAM_ASSIGN_OR_RETURN(const FileKind kind, LookAtKind(&reader.bytes_));
  if (kind == FileKind::kNpy) {
    ENGRAM_RETURN_IF_ERROR(reader.TakeHeader(options));
    return reader;
  }
  if (kind != FileKind::kRaw) return NotNumbers(kind, reader.name(), kWrite);
  if (options.type) {
    reader.element_ = *options.type == TokenIdType::kInt64 ? Element::kInt64 : Element::kInt32;
    return reader;
  }
  if (options.lookalikes) return reader;
  ENGRAM_ASSIGN_OR_RETURN(const bool is_wide, LooksLikeInt64(&reader.bytes_));
  if (!is_wide) return reader;
  return absl::InvalidArgumentError(absl::StrCat(
      reader.name(),
      " looks like int64: read as int32, every second token id of it is 0 or -1. Give "
      "--token-ids-type int64 if it is int64, and --token-ids-type int32 if these are the ids"));
}

absl::Status TokenIdReader::TakeHeader(const Options& options) {
  ENGRAM_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(&bytes_));
  left_ = header.elements;
  if (header.type == "<i4") {
    element_ = Element::kInt32;
  } else if (header.type == "<i8") {
    element_ = Element::kInt64;
  } else if (header.type == "<u4") {
    element_ = Element::kUint32;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), " is a .npy array of '", header.type, "'", Trouble(header.type),
                     ", and token ids are int32 ('<i4'), int64 ('<i8') or uint32 ('<u4'): save "
                     "them with numpy.save(FILE, ids.astype(\"<i4\"))"));
  }
  if (!options.type) return absl::OkStatus();
  const bool wants_int64 = *options.type == TokenIdType::kInt64;
  if (element_ == (wants_int64 ? Element::kInt64 : Element::kInt32)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name(), " is a .npy array of '", header.type, "', and --token-ids-type says ",
                   wants_int64 ? "int64" : "int32", ": leave the flag out"));
}

absl::Status TokenIdReader::CheckEnd(size_t wanted_bytes, size_t got_bytes) {
  if (left_ && got_bytes < wanted_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), " is cut off: its header says that there are more token ids than the ",
                     position_, " that it holds; is it whole?"));
  }
  const size_t id_bytes = element_ == Element::kInt64 ? sizeof(int64_t) : sizeof(int32_t);
  if (got_bytes % id_bytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), " ends in the middle of a token id: its size is not a multiple of ",
                     id_bytes, " bytes; is it the right file, and whole?"));
  }
  if (!left_ || *left_ > 0) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(const absl::string_view beyond, bytes_.Peek(1));
  if (beyond.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name(), " holds more than the ", position_,
                                                 " token ids of its header; is it one .npy file?"));
}

absl::StatusOr<size_t> TokenIdReader::Read(int32_t* out, size_t count) {
  wide_.clear();
  if (left_) count = static_cast<size_t>(std::min<uint64_t>(count, *left_));
  const size_t id_bytes = element_ == Element::kInt64 ? sizeof(int64_t) : sizeof(int32_t);
  char* to = reinterpret_cast<char*>(out);
  if (element_ != Element::kInt32) {
    buffer_.resize(std::max(buffer_.size(), count * id_bytes));
    to = buffer_.data();
  }
  ENGRAM_ASSIGN_OR_RETURN(const size_t got, bytes_.Read(to, count * id_bytes));
  const size_t ids = got / id_bytes;
  for (size_t i = 0; element_ != Element::kInt32 && i < ids; ++i) {
    int64_t value = 0;  // a uint32 fills its low half
    std::memcpy(&value, to + i * id_bytes, id_bytes);
    out[i] = static_cast<int32_t>(value);
    if (out[i] == value) continue;
    wide_.push_back({position_ + i, value});
    out[i] = INT32_MIN;
  }
  position_ += ids;
  if (left_) *left_ -= ids;
  ENGRAM_RETURN_IF_ERROR(CheckEnd(count * id_bytes, got));
  return ids;
}

absl::StatusOr<std::vector<int32_t>> ReadTokenIds(const std::string& path,
                                                  const TokenIdReader::Options& options,
                                                  size_t most) {
  ENGRAM_ASSIGN_OR_RETURN(TokenIdReader reader, TokenIdReader::Open(path, options));
  std::vector<int32_t> ids;
  while (ids.size() < most) {
    const size_t before = ids.size();
    ids.resize(before + std::min(kReadIds, most - before));
    ENGRAM_ASSIGN_OR_RETURN(const size_t got,
                            reader.Read(ids.data() + before, ids.size() - before));
    ids.resize(before + got);
    if (!reader.wide().empty()) return RefuseWideTokenId(reader.name(), reader.wide().front());
    if (got == 0) break;
  }
  return ids;
}

}  // namespace engram
