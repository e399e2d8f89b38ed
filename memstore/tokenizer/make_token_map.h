// Makes the token map of a vocabulary from its tokenizer.json (proto/FORMATS.md, "Token maps").
//
// Stateless. Cost: some 0.5 s for 130,000 ids. The file is other people's: memory and time follow
// from its length.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct MadeTokenMap {
  std::vector<int32_t> compressed;  // of each id from 0 to the highest
  uint32_t compressed_vocab_size = 0;
  std::string sha256;  // of the map's bytes

  absl::string_view bytes() const;
};

// From the text of a tokenizer.json. Errors of ParseTokenizerJson and TokenDecoder;
// RESOURCE_EXHAUSTED when its decoders make more text than any vocabulary has.
absl::StatusOr<MadeTokenMap> MakeTokenMap(absl::string_view tokenizer_json);

// The same from a file; a message names it. NOT_FOUND when there is none, RESOURCE_EXHAUSTED when
// it is longer than kMaxTokenizerBytes.
absl::StatusOr<MadeTokenMap> MakeTokenMapOf(const std::string& path);

}  // namespace engram
