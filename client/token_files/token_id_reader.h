// Token ids of a file: raw int32 or int64, or a .npy array of int32, int64 or uint32.
//
// What is something else by its looks is refused with what to do: text, JSON, ZIP, another type of
// array, int64 that nobody said are int64. Single-threaded. Memory is what a caller asks for at a
// time, and at most a MiB that was looked at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/token_files/byte_reader.h"

namespace engram {

enum class TokenIdType { kInt32, kInt64 };

// "int32" and "int64"; none for anything else.
std::optional<TokenIdType> ParseTokenIdType(absl::string_view text);

// A token id that an int32 does not hold.
struct WideTokenId {
  uint64_t position = 0;  // in the file
  int64_t value = 0;
};

// INVALID_ARGUMENT with the id's usual causes.
absl::Status RefuseWideTokenId(const std::string& name, const WideTokenId& id);

class TokenIdReader {
 public:
  struct Options {
    // Of raw ids; none: int32, and what looks like int64 is refused. A .npy file says its own, and
    // is refused where this is another.
    std::optional<TokenIdType> type = {};
    // Whether raw ids that look like int64 are taken for the int32 that they are said not to be:
    // where something else tells, such as the length of a mask.
    bool lookalikes = false;
  };
  // Errors of ByteReader::Open; INVALID_ARGUMENT names the file, what it is, and the cure.
  static absl::StatusOr<TokenIdReader> Open(const std::string& path, const Options& options);
  // The same from where a reader is.
  static absl::StatusOr<TokenIdReader> From(ByteReader bytes, const Options& options);

  const std::string& name() const { return bytes_.name(); }

  // Reads up to `count` ids to `out`; fewer only at the end. In the place of one that an int32 does
  // not hold stands INT32_MIN, which is no token id, and it is in wide(): whoever knows of dead
  // positions knows whether it matters. INVALID_ARGUMENT when the file ends in the middle of an id,
  // or is not as long as its header says.
  absl::StatusOr<size_t> Read(int32_t* out, size_t count);
  // Of the last Read, ascending.
  absl::Span<const WideTokenId> wide() const { return wide_; }

 private:
  enum class Element { kInt32, kInt64, kUint32 };

  explicit TokenIdReader(ByteReader bytes) : bytes_(std::move(bytes)) {}
  absl::Status TakeHeader(const Options& options);
  absl::Status CheckEnd(size_t wanted_bytes, size_t got_bytes);

  ByteReader bytes_;
  Element element_ = Element::kInt32;
  std::optional<uint64_t> left_;  // ids that are still to come, where a header says how many
  uint64_t position_ = 0;
  std::vector<char> buffer_;  // of ids that are not int32
  std::vector<WideTokenId> wide_;
};

// The first `most` ids of a file, or all. Errors of TokenIdReader's, and RefuseWideTokenId's.
absl::StatusOr<std::vector<int32_t>> ReadTokenIds(const std::string& path,
                                                  const TokenIdReader::Options& options,
                                                  size_t most);

}  // namespace engram
