#include "memstore/recipe/config_objects.h"

#include <cmath>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "memstore/base/python_numbers.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/recipe/checkpoint_config.h"

namespace engram {
namespace {

using nlohmann::json;

// Wrappers are a few levels.
constexpr int kMaxNesting = 64;
// Whole numbers up to this are exact as a double, which is how some writers spell them.
constexpr double kMaxExactDouble = 9007199254740992.0;

bool IsOfTextModel(absl::string_view name) {
  static constexpr absl::string_view kWords[] = {"text", "language", "llm", "lm", "thinker"};
  return absl::c_any_of(
      WordsOf(name), [](const std::string& word) { return absl::c_linear_search(kWords, word); });
}

// Collects the objects that count, those around before those within.
class ObjectWalk {
 public:
  ConfigObjects Collect(const json& top) {
    Enter(top, nullptr, "");
    return std::move(objects_);
  }

 private:
  void Enter(const json& value, const ConfigObject* around, absl::string_view name) {
    if (value.is_array()) {
      for (const json& element : value) {
        if (element.is_structured()) Enter(element, around, name);
      }
      return;
    }
    objects_.push_back(std::make_unique<ConfigObject>(
        ConfigObject{&value, around, std::string(name), IsOfTextModel(name)}));
    const ConfigObject* const here = objects_.back().get();
    for (const auto& [key, member] : value.items()) {
      if (member.is_structured() && !IsOfOtherModel(key)) Enter(member, here, key);
    }
  }

  ConfigObjects objects_;
};

}  // namespace

// A reader of JSON takes one of two equal keys, and no two need take the same. What walks the tree
// recurses: nothing may nest deeper than the stack is.
absl::StatusOr<json> ParseConfig(const std::string& text, const std::string& path) {
  std::vector<std::set<std::string>> keys;
  std::optional<std::string> twice;
  bool too_deep = false;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key &&
        !keys.back().insert(parsed.get<std::string>()).second) {
      twice = parsed.get<std::string>();
    }
    if (depth > kMaxNesting) too_deep = true;
    return depth <= kMaxNesting;  // else it is left out of the tree
  };
  json config = json::parse(QuotePythonNumbers(text), watch, /*allow_exceptions=*/false);
  std::string fault;
  if (!config.is_object()) fault = " is no JSON object: it is damaged, or not a checkpoint's";
  if (twice) {
    fault = absl::StrCat(": the key ", QuoteForMessage(*twice),
                         " stands twice in one object: remove one");
  }
  if (too_deep) fault = absl::StrCat(" nests deeper than ", kMaxNesting);
  if (!fault.empty()) return absl::FailedPreconditionError(absl::StrCat(path, fault));
  return config;
}

ConfigObjects CollectObjects(const json& config) { return ObjectWalk().Collect(config); }

std::string PathOf(const ConfigObject& object) {
  std::vector<std::string> names;
  for (const ConfigObject* at = &object; at->around != nullptr; at = at->around) {
    names.push_back(QuoteForMessage(at->name));
  }
  return absl::StrJoin(names.rbegin(), names.rend(), ".");
}

std::string NameForMessage(const ConfigObject& object) {
  return object.around == nullptr ? "the top level" : PathOf(object);
}

std::string SourceOf(const std::string& path, const ConfigObject& object, absl::string_view key) {
  return absl::StrCat(path, ": ", PathOf(object), object.around == nullptr ? "" : ".",
                      QuoteForMessage(key));
}

std::string TextOf(const json& value) {
  return QuoteForMessage(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

std::vector<std::string> WordsOf(absl::string_view name) {
  std::string spaced;
  for (const char c : name) {
    if (absl::ascii_isupper(c)) spaced.push_back(' ');
    spaced.push_back(absl::ascii_isalnum(c) ? absl::ascii_tolower(c) : ' ');
  }
  return absl::StrSplit(spaced, ' ', absl::SkipEmpty());
}

std::optional<uint64_t> WholeNumber(const json& value) {
  if (value.is_number_unsigned()) return value.get<uint64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  if (!(number >= 0 && number <= kMaxExactDouble) || number != std::floor(number)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(number);
}

bool IsOfOtherModel(absl::string_view name) {
  static constexpr absl::string_view kParts[] = {"vision", "visual", "audio",    "speech",
                                                 "image",  "video",  "speculat", "draft"};
  static constexpr absl::string_view kWords[] = {"vit",       "mtp",    "nextn",    "eagle",
                                                 "medusa",    "eagle3", "talker",   "code2wav",
                                                 "token2wav", "dspark", "assistant"};
  return absl::c_any_of(WordsOf(name), [](const std::string& word) {
    return absl::c_linear_search(kWords, word) ||
           absl::c_any_of(kParts,
                          [&](absl::string_view part) { return absl::StrContains(word, part); });
  });
}

}  // namespace engram
