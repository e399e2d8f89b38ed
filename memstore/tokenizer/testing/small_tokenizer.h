// Small tokenizers of each kind, with the token map of each worked out by hand.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace engram::testing_tokenizer {

struct SmallTokenizer {
  nlohmann::json json;
  std::vector<int32_t> map;
  uint32_t compressed_vocab_size = 0;

  // The file's text.
  std::string Text() const { return json.dump(); }
};

// Bytes as characters, as GPT-2's; one id is left out, and added tokens follow the vocabulary.
SmallTokenizer ByteLevelTokenizer();
// Pieces as SentencePiece's, bytes as tokens of their own.
SmallTokenizer ByteFallbackTokenizer();
// Pieces with scores, in a list.
SmallTokenizer UnigramTokenizer();

// One of which this map is made. `map` numbers its ids densely, as every token map does.
SmallTokenizer TokenizerOf(std::vector<int32_t> map);

}  // namespace engram::testing_tokenizer
