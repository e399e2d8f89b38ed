#include "memstore/recipe/image_token_ids.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/recipe/config_objects.h"
#include "memstore/safetensors/checkpoint_files.h"

namespace engram {
namespace {

using nlohmann::json;

// A number below 0 stands for no token of the text (LLaVA's -200), and null for none. Of anything
// else nobody knows which token it was to be, and that one would pass for text.
absl::Status AddIds(const std::string& source, const json& value, std::set<int32_t>& ids) {
  const json list = value.is_array() ? value : json::array({value});
  for (const json& element : list) {
    const std::optional<uint64_t> id = WholeNumber(element);
    if (id && *id <= INT32_MAX) {
      ids.insert(static_cast<int32_t>(*id));
      continue;
    }
    const bool is_negative = element.is_number_integer() && !element.is_number_unsigned();
    if (!element.is_null() && !is_negative) {
      return absl::FailedPreconditionError(
          absl::StrCat(source, " is ", TextOf(value), ", expected ", kImageTokenIdExpected));
    }
  }
  return absl::OkStatus();
}

}  // namespace

bool IsImageTokenKey(absl::string_view key) {
  static constexpr absl::string_view kWhat[] = {"image", "img",   "im",   "vision",
                                                "video", "audio", "media"};
  static constexpr absl::string_view kThing[] = {"token", "patch"};
  static constexpr absl::string_view kNumber[] = {"id", "ids", "index"};
  // What may stand beside: another word makes it something else.
  static constexpr absl::string_view kBeside[] = {"pad",  "placeholder", "context",
                                                  "soft", "ple",         "engram"};
  const std::vector<std::string> words = WordsOf(key);
  const auto are = [&words](absl::Span<const absl::string_view> known) {
    return absl::c_any_of(
        words, [&](const std::string& word) { return absl::c_linear_search(known, word); });
  };
  return are(kWhat) && are(kThing) && absl::c_linear_search(kNumber, words.back()) &&
         absl::c_all_of(words, [](const std::string& word) {
           return absl::c_linear_search(kWhat, word) || absl::c_linear_search(kThing, word) ||
                  absl::c_linear_search(kNumber, word) || absl::c_linear_search(kBeside, word);
         });
}

absl::StatusOr<std::vector<int32_t>> ReadImageTokenIds(const std::string& directory) {
  const std::string path = JoinPath(directory, "config.json");
  const absl::StatusOr<std::string> text = ReadCheckpointText(path, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) return std::vector<int32_t>();
  ENGRAM_RETURN_IF_ERROR(text.status());
  ENGRAM_ASSIGN_OR_RETURN(const json config, ParseConfig(*text, path));
  std::set<int32_t> ids;
  for (const auto& object : CollectObjects(config)) {
    for (const auto& [key, value] : object->object->items()) {
      if (!IsImageTokenKey(key)) continue;
      ENGRAM_RETURN_IF_ERROR(AddIds(SourceOf(path, *object, key), value, ids));
    }
  }
  if (ids.size() > kMaxConfigImageTokens) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " names ", ids.size(), " token ids of images, more than ",
                     kMaxConfigImageTokens, ": remove the keys that are none of them"));
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

}  // namespace engram
