// A tokenizer.json (Hugging Face's `tokenizers`), as far as the text of one id needs it: the
// tokens with their ids, and the decoder's description.
//
// Stateless. The text is other people's: it is gone through once, and memory follows from its
// length, never from a number in it. What two readers could read in two ways is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// The largest published vocabularies have some 260,000 tokens in 35 MB.
inline constexpr uint64_t kMaxTokenizerBytes = uint64_t{128} << 20;
// As many ids as the token map that a client takes when it attaches (40 MiB) has room for.
inline constexpr uint64_t kMaxTokenIds = (uint64_t{40} << 20) / sizeof(int32_t);
// Eight times the largest published vocabularies. Making the map of so many takes some 400 MB.
inline constexpr uint64_t kMaxTokens = uint64_t{1} << 21;
// Of one token as it is written: published ones have some hundreds.
inline constexpr size_t kMaxTokenBytes = size_t{64} << 10;
// A decoder is three levels deep, a whole file seven.
inline constexpr size_t kMaxTokenizerNesting = 64;

struct Token {
  uint32_t id = 0;
  std::string raw;  // valid UTF-8
};

struct TokenizerFile {
  // Of vocabulary and added tokens; ascending, each id once. Ids may be left out.
  std::vector<Token> tokens;
  nlohmann::json decoder;  // null: there is none
  // One more than the highest id.
  uint64_t Ids() const { return tokens.empty() ? 0 : uint64_t{tokens.back().id} + 1; }
};

// INVALID_ARGUMENT says what is wrong with it and where: no JSON, no UTF-8, nested too deep, no
// vocabulary, a model that is not known, more than kMaxTokens, an id that is no id or has two
// tokens, a token with two ids. Cost: one pass, 0.1 s for 8 MB.
absl::StatusOr<TokenizerFile> ParseTokenizerJson(absl::string_view text);

}  // namespace engram
