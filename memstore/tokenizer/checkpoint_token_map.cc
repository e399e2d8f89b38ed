#include "memstore/tokenizer/checkpoint_token_map.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "memstore/base/sha256.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// What `map`, which is not its own family's known one, has of a known one; empty: nothing.
std::string LikenessTo(const MadeTokenMap& map, const Family& known, bool is_own) {
  const uint64_t known_bytes = uint64_t{known.vocab_size} * sizeof(int32_t);
  if (map.sha256 == known.token_map_sha256) return absl::StrCat("it is that of ", known.name);
  if (is_own && map.bytes().size() == known_bytes) return "it has as many ids and other entries";
  if (map.bytes().size() > known_bytes &&
      Sha256Hex(map.bytes().substr(0, known_bytes)) == known.token_map_sha256) {
    return absl::StrCat("it begins with that of ", known.name, ", and ",
                        map.compressed.size() - known.vocab_size, " ids were added");
  }
  return "";
}

}  // namespace

std::string TokenizerPath(const std::string& directory) {
  return JoinPath(directory, "tokenizer.json");
}

absl::StatusOr<MadeTokenMap> MakeCheckpointTokenMap(const Family& family,
                                                    const std::string& directory) {
  absl::StatusOr<MadeTokenMap> map = MakeTokenMapOf(TokenizerPath(directory));
  if (map.ok()) return map;
  const bool none = absl::IsNotFound(map.status());
  return absl::Status(
      none ? absl::StatusCode::kFailedPrecondition : map.status().code(),
      absl::StrCat(map.status().message(), ". The family ", family.name,
                   " hashes compressed token ids and needs its token map: give the checkpoint its "
                   "tokenizer.json, or the map with --token-map FILE; ",
                   family.token_map_source));
}

absl::Status CheckVocabulary(const MadeTokenMap& map, const Family& family,
                             const std::string& source) {
  if (map.sha256 == family.token_map_sha256) return absl::OkStatus();
  for (const Family& known : Families()) {
    if (known.compressed_vocab_size == 0) continue;
    const bool is_own = known.token_map_sha256 == family.token_map_sha256;
    const std::string likeness = LikenessTo(map, known, is_own);
    if (likeness.empty()) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "the token map of ", source, " (", map.compressed.size(), " ids, ",
        map.compressed_vocab_size, " compressed) is not that of ", family.name, " (",
        family.vocab_size, ", ", family.compressed_vocab_size, "): ", likeness,
        ", and no other source says which one the model was trained with. Give the map with "
        "--token-map FILE, or a config.json with engram_compressed_vocab_size; ",
        family.token_map_source));
  }
  return absl::OkStatus();
}

}  // namespace engram
