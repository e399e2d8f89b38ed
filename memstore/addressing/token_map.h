// The map from a tokenizer's ids to compressed ids (ids whose text normalises alike share one).
//
// Immutable once made; share it freely between threads. A wrong map rehashes everything without a
// sign, so it is made only from bytes whose size and digest are what the caller expects.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/addressing/scheme.h"

namespace engram {

class TokenMap {
 public:
  // `bytes` are int32, little-endian, one for each raw id. FAILED_PRECONDITION when the size is not
  // 4 * vocab_size or the SHA-256 is not `reference.sha256`; INVALID_ARGUMENT when an entry is not
  // in 0..compressed_vocab_size-1. `source` names the bytes in messages. Cost: one pass.
  static absl::StatusOr<TokenMap> Parse(absl::string_view bytes, uint32_t vocab_size,
                                        const TokenMapReference& reference,
                                        absl::string_view source);
  // The same from a file; NOT_FOUND when there is none.
  static absl::StatusOr<TokenMap> Load(const std::string& path, uint32_t vocab_size,
                                       const TokenMapReference& reference);

  // [vocab_size]
  const std::vector<int32_t>& compressed() const { return compressed_; }
  // The file's bytes again, for passing on.
  absl::string_view bytes() const;

 private:
  explicit TokenMap(std::vector<int32_t> compressed) : compressed_(std::move(compressed)) {}
  std::vector<int32_t> compressed_;
};

}  // namespace engram
