#include "memstore/tokenizer/make_token_map.h"

#include <bit>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/safetensors/checkpoint_files.h"
#include "memstore/tokenizer/normal_text.h"
#include "memstore/tokenizer/token_decoder.h"
#include "memstore/tokenizer/tokenizer_json.h"

namespace engram {

static_assert(std::endian::native == std::endian::little, "maps are written as they lie in memory");

namespace {

// Of all ids, before and after each decoder: some ten times what 262,000 tokens and three decoders
// come to. To normalise as much takes a few seconds.
constexpr uint64_t kMaxMadeBytes = uint64_t{64} << 20;
// What bytes that are no text become.
constexpr absl::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// Gives each new key the next compressed id.
class KeyNumbers {
 public:
  int32_t Of(const std::string& key) {
    return numbers_.try_emplace(key, static_cast<int32_t>(numbers_.size())).first->second;
  }
  size_t size() const { return numbers_.size(); }

 private:
  absl::flat_hash_map<std::string, int32_t> numbers_;
};

// Ids whose keys are the same share a compressed id.
absl::StatusOr<std::string> KeyOf(const std::string& raw, std::string text) {
  if (absl::StrContains(text, kReplacementCharacter)) return raw;
  ENGRAM_ASSIGN_OR_RETURN(std::string normal, NormalText(text));
  return normal.empty() ? std::move(text) : std::move(normal);
}

}  // namespace

absl::string_view MadeTokenMap::bytes() const {
  return {reinterpret_cast<const char*>(compressed.data()), compressed.size() * sizeof(int32_t)};
}

absl::StatusOr<MadeTokenMap> MakeTokenMap(absl::string_view tokenizer_json) {
  ENGRAM_ASSIGN_OR_RETURN(const TokenizerFile file, ParseTokenizerJson(tokenizer_json));
  ENGRAM_ASSIGN_OR_RETURN(const TokenDecoder decoder, TokenDecoder::Create(file.decoder));
  MadeTokenMap map;
  map.compressed.reserve(file.Ids());
  KeyNumbers numbers;
  uint64_t made_bytes = 0;
  for (const Token& token : file.tokens) {
    // The text of an id that no token has is empty.
    if (map.compressed.size() < token.id) map.compressed.resize(token.id, numbers.Of(""));
    ENGRAM_ASSIGN_OR_RETURN(std::string text, decoder.Text(token.raw, &made_bytes));
    if (made_bytes > kMaxMadeBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("its tokens and what its decoders make of them have more than ",
                       kMaxMadeBytes, " bytes"));
    }
    ENGRAM_ASSIGN_OR_RETURN(std::string key, KeyOf(token.raw, std::move(text)));
    map.compressed.push_back(numbers.Of(key));
  }
  map.compressed_vocab_size = static_cast<uint32_t>(numbers.size());
  map.sha256 = Sha256Hex(map.bytes());
  return map;
}

absl::StatusOr<MadeTokenMap> MakeTokenMapOf(const std::string& path) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string text, ReadCheckpointText(path, kMaxTokenizerBytes));
  absl::StatusOr<MadeTokenMap> map = MakeTokenMap(text);
  if (map.ok()) return map;
  return absl::Status(map.status().code(), absl::StrCat(path, ": ", map.status().message()));
}

}  // namespace engram
