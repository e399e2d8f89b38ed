#include "memstore/tokenizer/testing/small_tokenizer.h"

#include <algorithm>
#include <utility>

namespace engram::testing_tokenizer {
namespace {

using nlohmann::json;

struct Word {
  const char* token;
  int32_t compressed;
};

// The ids are the places; those of `added` follow, after one that no token has.
SmallTokenizer Make(const std::vector<Word>& words, const std::vector<Word>& added, bool listed,
                    json decoder, int32_t hole = -1) {
  SmallTokenizer made;
  json vocabulary = listed ? json::array() : json::object();
  for (const Word& word : words) {
    if (listed) {
      vocabulary.push_back(json::array({word.token, -0.5 * double(made.map.size())}));
    } else {
      vocabulary[word.token] = made.map.size();
    }
    made.map.push_back(word.compressed);
  }
  if (hole >= 0) made.map.push_back(hole);
  json more = json::array();
  for (const Word& word : added) {
    more.push_back({{"id", made.map.size()}, {"content", word.token}, {"special", true}});
    made.map.push_back(word.compressed);
  }
  made.json = {{"version", "1.0"},
               {"added_tokens", more},
               {"normalizer", nullptr},
               {"decoder", std::move(decoder)},
               {"model", {{"type", listed ? "Unigram" : "BPE"}, {"vocab", std::move(vocabulary)}}}};
  if (!listed) made.json["model"]["merges"] = json::array({"a b", json::array({"a", "c"})});
  for (const int32_t compressed : made.map) {
    made.compressed_vocab_size = std::max(made.compressed_vocab_size, uint32_t(compressed) + 1);
  }
  return made;
}

}  // namespace

SmallTokenizer ByteLevelTokenizer() {
  return Make({{"The", 0},
               {"ĠThe", 0},  // a space before it
               {"the", 0},
               {"Ġ", 1},
               {"Ċ", 1},   // a new line
               {"ĊĊ", 1},  // two
               {"ĠĠ", 1},
               {"Ã©", 2},  // e with an acute accent
               {"e", 2},
               {"Ã", 3},    // half a character
               {"Ãī", 2},   // E with an acute accent
               {"ï¬ģ", 4},  // the ligature fi
               {"fi", 4},
               {"ï¼¡", 5},  // a wide A
               {"a", 5}},
              // A space is no character of a byte-level vocabulary: the token is text already.
              {{"<|end|>", 7}, {" the", 0}, {"<|END|>", 7}},
              /*listed=*/false, {{"type", "ByteLevel"}, {"add_prefix_space", true}}, /*hole=*/6);
}

SmallTokenizer ByteFallbackTokenizer() {
  const json decoder = {{"type", "Sequence"},
                        {"decoders",
                         {{{"type", "Replace"}, {"pattern", {{"String", "▁"}}}, {"content", " "}},
                          {{"type", "ByteFallback"}},
                          {{"type", "Fuse"}},
                          {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  return Make({{"<unk>", 0},
               {"<s>", 1},
               {"<0x41>", 2},  // A
               {"<0xE9>", 3},  // half characters each have their own
               {"<0xC3>", 4},
               {"<0x20>", 5},  // the space is stripped: nothing is left
               {"▁a", 2},
               {"a", 2},
               {"▁", 5},
               {"▁▁", 6},  // of two spaces one is left
               {"▁▁▁", 6},
               {"<0x0A>", 6},
               {"Á", 2}},
              {}, /*listed=*/false, decoder);
}

SmallTokenizer UnigramTokenizer() {
  const json decoder = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}};
  return Make({{"<unk>", 0},
               {"▁", 1},  // nothing is left of it
               {"▁The", 2},
               {"The", 2},
               {"▁▁", 1},
               {"a▁b", 3},
               {"ab", 3},
               {"The", 2}},  // a list may hold a piece twice
              {{"<pad>", 4}}, /*listed=*/true, decoder, /*hole=*/1);
}

SmallTokenizer TokenizerOf(std::vector<int32_t> map) {
  SmallTokenizer made;
  json vocabulary = json::object();
  std::vector<std::string> words(map.size());
  for (size_t id = 0; id < map.size(); ++id) {
    std::string& word = words[map[id]];
    // Accents part the tokens of one compressed id, and are no part of their text.
    word += word.empty() ? "word" + std::to_string(map[id]) : "\u0301";
    vocabulary[word] = id;
    made.compressed_vocab_size = std::max(made.compressed_vocab_size, uint32_t(map[id]) + 1);
  }
  made.map = std::move(map);
  made.json = {{"decoder", nullptr}, {"model", {{"vocab", std::move(vocabulary)}}}};
  return made;
}

}  // namespace engram::testing_tokenizer
