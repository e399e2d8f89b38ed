// The text of one id, as a tokenizer's own decoder makes it of that id alone.
//
// Immutable once made, thread-safe. Follows Hugging Face's `tokenizers` for a list of one token; a
// decoder that is not known here is refused, so that no text is a guess.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

// Decoders one after the other: published sequences have up to five.
inline constexpr size_t kMaxDecoders = 64;
// Of a decoder's own strings: a character or a suffix.
inline constexpr size_t kMaxDecoderStringBytes = 256;
// Of an id's text: decoders can lengthen it, each by as much again.
inline constexpr size_t kMaxTokenTextBytes = size_t{1} << 20;

class TokenDecoder {
 public:
  // `decoder` is the value of that key in tokenizer.json; null: the text is the token as it is
  // written. UNIMPLEMENTED names a decoder, or a setting of one, that is not known here;
  // INVALID_ARGUMENT what is no decoder.
  static absl::StatusOr<TokenDecoder> Create(const nlohmann::json& decoder);

  // `raw` is valid UTF-8, as is the text: bytes that are none become U+FFFD. RESOURCE_EXHAUSTED
  // when the text grows beyond kMaxTokenTextBytes. The bytes of it, before and after each
  // decoder, are added to `*made_bytes`, for a caller that bounds its work.
  absl::StatusOr<std::string> Text(absl::string_view raw, uint64_t* made_bytes) const;

 private:
  TokenDecoder() = default;
  std::vector<std::function<std::string(absl::string_view)>> steps_;
};

}  // namespace engram
