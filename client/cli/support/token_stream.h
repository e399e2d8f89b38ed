// Token ids with the marks of their dead positions, read a run at a time. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/token_files/dead_mask_reader.h"
#include "client/token_files/token_id_reader.h"
#include "memstore/addressing/scheme.h"

namespace engram::cli {

// Files as flags name them; "-" is standard input.
struct TokenFiles {
  std::string token_ids = {};
  std::string token_ids_type = {};   // "int32" or "int64"; empty: not said
  std::string dead_mask = {};        // empty: none
  std::string sequence_tokens = {};  // empty: one sequence
};

class TokenStream {
 public:
  // Errors of TokenIdReader, DeadMaskReader and ReadSequenceTokens: NOT_FOUND names the file,
  // INVALID_ARGUMENT what it is instead.
  static absl::StatusOr<TokenStream> Open(const TokenFiles& files);

  struct Run {
    absl::Span<const int32_t> token_ids;  // none: the end
    absl::Span<const uint8_t> dead;       // as many, or none where there is no mask
    bool starts_sequence = false;         // nothing before it belongs to it
  };
  // Up to `count` tokens of one sequence, fewer only at its end; they stay until the next call.
  // INVALID_ARGUMENT when a file ends in the middle of an element, the mask is not as long as the
  // ids, the sequences have more or fewer tokens than there are ids, or an id that is not dead is
  // beyond what any vocabulary has.
  absl::StatusOr<Run> Read(size_t count);

 private:
  explicit TokenStream(TokenIdReader token_ids) : token_ids_(std::move(token_ids)) {}

  // The tokens that its sequence has left, having gone to the next one where it has none.
  uint64_t LeftOfSequence(bool* starts);
  absl::Status CheckSequence(uint64_t wanted, uint64_t got) const;
  absl::Status ReadMask(size_t tokens);
  absl::Status CheckWide(absl::Span<const uint8_t> dead) const;

  TokenFiles files_;
  TokenIdReader token_ids_;
  std::optional<DeadMaskReader> dead_mask_;
  std::vector<int32_t> ids_;
  std::vector<uint8_t> dead_;
  uint64_t tokens_ = 0;  // read
  bool started_ = false;
  // Where there are several sequences; else one that has no end.
  std::optional<std::vector<uint32_t>> sequence_tokens_;
  size_t next_sequence_ = 0;
  uint64_t left_of_sequence_ = 0;
};

// Tokens of one sequence.
struct MarkedTokens {
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> dead;  // as many, or none where there is no mask
};
// The first `most` tokens of files without sequences, or all of them. Errors of TokenStream. What
// stands behind the first `most` is not looked at.
absl::StatusOr<MarkedTokens> ReadTokens(const TokenFiles& files, size_t most);

// INVALID_ARGUMENT when there is a mask and the scheme has no dead positions.
absl::Status CheckDeadMask(const TokenFiles& files, const AddressScheme& scheme);
// INVALID_ARGUMENT when two of them are standard input.
absl::Status CheckTokenFiles(const TokenFiles& files);
// INVALID_ARGUMENT when the output of a command is one of them.
absl::Status CheckNotOverTokenFiles(const std::string& output, const TokenFiles& files);

}  // namespace engram::cli
