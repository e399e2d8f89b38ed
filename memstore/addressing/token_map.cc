#include "memstore/addressing/token_map.h"

#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"

namespace engram {

static_assert(std::endian::native == std::endian::little, "maps are read as they lie in the file");

namespace {

int64_t FileBytes(uint32_t vocab_size) { return int64_t{sizeof(int32_t)} * vocab_size; }

absl::Status WrongSize(absl::string_view source, int64_t bytes, uint32_t vocab_size) {
  return absl::FailedPreconditionError(
      absl::StrCat(source, " is not the token map: it has ", bytes, " bytes, the scheme's map has ",
                   FileBytes(vocab_size), " (int32 for each of ", vocab_size, " token ids)"));
}

}  // namespace

absl::StatusOr<TokenMap> TokenMap::Parse(absl::string_view bytes, uint32_t vocab_size,
                                         const TokenMapReference& reference,
                                         absl::string_view source) {
  if (int64_t(bytes.size()) != FileBytes(vocab_size)) {
    return WrongSize(source, int64_t(bytes.size()), vocab_size);
  }
  const std::string digest = Sha256Hex(bytes);
  if (digest != reference.sha256) {
    return absl::FailedPreconditionError(
        absl::StrCat(source, " is not the token map: its SHA-256 is ", digest, ", the scheme's is ",
                     reference.sha256, "; rows addressed with it would be wrong ones"));
  }
  std::vector<int32_t> compressed(vocab_size);
  std::memcpy(compressed.data(), bytes.data(), bytes.size());
  for (size_t id = 0; id < compressed.size(); ++id) {
    if (static_cast<uint32_t>(compressed[id]) >= reference.compressed_vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": token id ", id, " has the compressed id ", compressed[id],
                       ", must be 0..", int64_t{reference.compressed_vocab_size} - 1));
    }
  }
  return TokenMap(std::move(compressed));
}

absl::StatusOr<TokenMap> TokenMap::Load(const std::string& path, uint32_t vocab_size,
                                        const TokenMapReference& reference) {
  // A pipe would be waited for without end.
  std::error_code error;
  if (std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the token map ", path, " is no regular file: give the file itself"));
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return absl::ErrnoToStatus(errno, absl::StrCat("cannot read the token map ", path));
  const int64_t file_bytes = file.tellg();
  // Before anything is allocated: the size is all that a wrong file can make this cost.
  if (file_bytes != FileBytes(vocab_size)) return WrongSize(path, file_bytes, vocab_size);
  std::string bytes(static_cast<size_t>(file_bytes), '\0');
  file.seekg(0);
  if (!file.read(bytes.data(), file_bytes)) {
    return absl::UnavailableError(absl::StrCat("cannot read the token map ", path));
  }
  return Parse(bytes, vocab_size, reference, path);
}

absl::string_view TokenMap::bytes() const {
  return {reinterpret_cast<const char*>(compressed_.data()), compressed_.size() * sizeof(int32_t)};
}

}  // namespace engram
