#include "memstore/recipe/checkpoint_config.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "memstore/recipe/config_keys.h"
#include "memstore/recipe/config_objects.h"
#include "memstore/safetensors/checkpoint_files.h"

namespace engram {
namespace {

using nlohmann::json;

// Of a list in a message or a parameter: more than the layers of any model.
constexpr size_t kMaxListed = kMaxLayers;

// An object under a known key has the wrong type, which its reader says; under another it may be a
// wrapper.
bool HoldsOwnKeys(const ConfigObject& object, ConfigKeys keys) {
  for (const auto& [key, value] : object.object->items()) {
    if (value.is_null() || !IsOwnKey(keys, key)) continue;
    if (!value.is_object() || IsReadKey(keys, key)) return true;
  }
  if (!IsOwnObject(keys, object.name)) return false;
  return absl::c_any_of(ConfigKeysOf(keys), [&](const ConfigKey& key) {
    const auto at = object.object->find(key.key);
    // A seed in an object of the family's own name is no other's.
    const bool counts = key.reach != KeyReach::kGeneric || key.parameter == RecipeParameter::kSeed;
    return counts && at != object.object->end() && !at->is_null();
  });
}

// The one object that holds keys of the family's own, or nullptr.
absl::StatusOr<const ConfigObject*> FindOwner(const ConfigObjects& objects, const Family& family,
                                              const std::string& path) {
  const ConfigObject* owner = nullptr;
  for (const auto& object : objects) {
    if (!HoldsOwnKeys(*object, family.config_keys)) continue;
    if (owner != nullptr) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": both ", NameForMessage(*owner), " and ", NameForMessage(*object),
          " hold keys of the family ", family.name, ": which is the model's? Remove the other's"));
    }
    owner = object.get();
  }
  return owner;
}

bool IsWithin(const ConfigObject& inner, const ConfigObject& outer) {
  const ConfigObject* at = &inner;
  while (at != nullptr && at != &outer) at = at->around;
  return at != nullptr;
}

// Reads the keys of one file into a StatedRecipe.
class KeyReader {
 public:
  KeyReader(const std::string& path, const Family& family, std::optional<uint32_t> reset_token,
            StatedRecipe& stated)
      : path_(path), family_(family), reset_token_(reset_token), stated_(stated) {}

  // The keys of the object with the family's own, in turn those that multiply the vocabulary, which
  // are read when it is known, or all others.
  absl::Status ReadOwner(const ConfigObject& owner, bool ratios) {
    for (const ConfigKey& key : ConfigKeysOf(family_.config_keys)) {
      const json* const value = ValueOf(owner, key);
      if (value == nullptr || (key.form == KeyForm::kVocabRatio) != ratios) continue;
      // To a seed by the family's own name any other seed is something else.
      if (IsSeed(key) && key.reach == KeyReach::kGeneric && by_own_key_.contains(*key.parameter)) {
        ENGRAM_RETURN_IF_ERROR(Yield(key, SourceOf(path_, owner, key.key), *value));
        continue;
      }
      if (key.parameter) of_owner_.insert(*key.parameter);
      if (key.parameter && key.reach == KeyReach::kOwn) by_own_key_.insert(*key.parameter);
      ENGRAM_RETURN_IF_ERROR(ReadValue(key, SourceOf(path_, owner, key.key), *value));
    }
    return absl::OkStatus();
  }
  // The generic keys of another object that counts.
  absl::Status ReadGeneric(const ConfigObject& object, bool is_around) {
    for (const ConfigKey& key : ConfigKeysOf(family_.config_keys)) {
      const json* const value = key.reach == KeyReach::kGeneric ? ValueOf(object, key) : nullptr;
      if (value == nullptr) continue;
      const std::string source = SourceOf(path_, object, key.key);
      // The seed of a whole model may be that of its training, its number of ids that of all parts.
      const bool yields =
          key.parameter == RecipeParameter::kTextVocabSize ||
          (IsSeed(key) && (is_around || by_own_key_.contains(RecipeParameter::kSeed)));
      if (!yields || !of_owner_.contains(*key.parameter)) {
        ENGRAM_RETURN_IF_ERROR(ReadValue(key, source, *value));
        continue;
      }
      ENGRAM_RETURN_IF_ERROR(Yield(key, source, *value));
    }
    return absl::OkStatus();
  }
  // Notes the generic keys of an object that may be another model's, where they say what no object
  // that counts does.
  void LeaveOut(const ConfigObject& object, const ConfigObject& owner) {
    for (const ConfigKey& key : ConfigKeysOf(family_.config_keys)) {
      const json* const value = key.reach == KeyReach::kGeneric ? ValueOf(object, key) : nullptr;
      if (value == nullptr || !key.parameter) continue;
      const std::string source = SourceOf(path_, object, key.key);
      const RecipeStatement* const said = stated_.Find(*key.parameter);
      const absl::StatusOr<std::vector<uint64_t>> numbers = Numbers(key.form, source, *value);
      if (said != nullptr && numbers.ok() && absl::c_linear_search(*numbers, said->values[0])) {
        continue;
      }
      AddNote(absl::StrCat(source, " is ", TextOf(*value), ", which was left out: the keys of ",
                           family_.name, " are in ", NameForMessage(owner)));
    }
  }
  // That were read.
  size_t keys() const { return keys_; }
  std::vector<std::string> TakeNotes() { return std::move(notes_); }

 private:
  // nullptr where the object says nothing that is read.
  static const json* ValueOf(const ConfigObject& object, const ConfigKey& key) {
    const auto at = object.object->find(key.key);
    if (at == object.object->end() || at->is_null()) return nullptr;
    return key.form == KeyForm::kApart ? nullptr : &*at;
  }

  static bool IsSeed(const ConfigKey& key) { return key.parameter == RecipeParameter::kSeed; }

  // Another key was read for the same parameter, before which this one does not count.
  absl::Status Yield(const ConfigKey& key, const std::string& source, const json& value) {
    ENGRAM_ASSIGN_OR_RETURN(const std::vector<uint64_t> numbers, Numbers(key.form, source, value));
    const RecipeStatement* const said = stated_.Find(*key.parameter);
    if (said == nullptr || said->values == numbers) return absl::OkStatus();
    AddNote(absl::StrCat(source, " is ", TextOf(value), ", which does not count: ", said->source,
                         " is ", said->text));
    return absl::OkStatus();
  }

  void AddNote(std::string note) {
    if (notes_.size() < kMaxListed) notes_.push_back(std::move(note));
  }

  absl::Status ReadValue(const ConfigKey& key, const std::string& source, const json& value) {
    // What only bounds the token map says nothing of the constants.
    if (key.parameter != RecipeParameter::kTextVocabSize) ++keys_;
    if (key.form == KeyForm::kOff) return CheckOff(source, value);
    if (key.form == KeyForm::kVocabRatio) return ReadRatio(*key.parameter, source, value);
    ENGRAM_ASSIGN_OR_RETURN(std::vector<uint64_t> numbers, Numbers(key.form, source, value));
    if (key.form == KeyForm::kEndToken && numbers.size() > 1) {
      return ReadEndTokens(source, value, numbers);
    }
    return stated_.State(*key.parameter, {std::move(numbers), source, TextOf(value)});
  }

  absl::Status Expected(const std::string& source, const json& value,
                        absl::string_view expected) const {
    return absl::FailedPreconditionError(
        absl::StrCat(source, " is ", TextOf(value), ", expected ", expected));
  }

  absl::StatusOr<std::vector<uint64_t>> Numbers(KeyForm form, const std::string& source,
                                                const json& value) const {
    std::vector<uint64_t> numbers;
    const bool takes_list = form != KeyForm::kNumber;
    const json list = value.is_array() && takes_list ? value : json::array({value});
    if (list.size() > kMaxListed) return Expected(source, value, "a shorter list");
    for (const json& element : list) {
      const std::optional<uint64_t> number = WholeNumber(element);
      if (!number) {
        return Expected(source, value,
                        takes_list ? "a whole number from 0 on, or a list of them"
                                   : "a whole number from 0 on");
      }
      numbers.push_back(*number);
    }
    if (numbers.empty()) return Expected(source, value, "at least one number");
    const bool are_equal =
        absl::c_count(numbers, numbers[0]) == static_cast<ptrdiff_t>(numbers.size());
    if (form == KeyForm::kEndToken && are_equal) numbers.resize(1);
    if (form == KeyForm::kEqualNumbers) {
      if (!are_equal) {
        return Expected(source, value,
                        "equal numbers: this program has one base size for all orders");
      }
      numbers.resize(1);
    }
    if (form == KeyForm::kNumbersFrom1) {
      for (uint64_t& number : numbers) {
        if (number-- == 0) return Expected(source, value, "layers that are counted from 1");
      }
    }
    return numbers;
  }

  absl::Status ReadEndTokens(const std::string& source, const json& value,
                             const std::vector<uint64_t>& tokens) const {
    const RecipeStatement* const said = stated_.Find(RecipeParameter::kResetToken);
    if (!reset_token_ && said == nullptr) {
      return Expected(source, value,
                      "one token: tell which of them ends a window with --reset-token-id ID");
    }
    const uint64_t token = reset_token_ ? *reset_token_ : said->values[0];
    if (absl::c_linear_search(tokens, token)) return absl::OkStatus();
    return Expected(source, value,
                    absl::StrCat("a list with ", token, " (",
                                 reset_token_ ? "--reset-token-id" : said->source, ")"));
  }

  // Rounded as the models' own code does: a product of doubles unless both are whole.
  absl::Status ReadRatio(RecipeParameter parameter, const std::string& source, const json& value) {
    const RecipeStatement* const stated_vocab = stated_.Find(RecipeParameter::kVocabSize);
    const uint64_t vocab = stated_vocab != nullptr ? stated_vocab->values[0] : family_.vocab_size;
    const double ratio = value.is_number() ? value.get<double>() : 0;
    // Also of a ratio that is no number.
    if (!(ratio > 0 && ratio * static_cast<double>(vocab) < static_cast<double>(kMaxLayerRows))) {
      return Expected(source, value, "a positive number of times the vocabulary");
    }
    const auto rows = static_cast<uint64_t>(ratio * static_cast<double>(vocab));
    const std::string text =
        absl::StrCat(TextOf(value), " (with ", vocab, " token ids: ", rows, " rows)");
    return stated_.State(parameter, {{rows}, source, text});
  }

  absl::Status CheckOff(const std::string& source, const json& value) const {
    const bool is_off = value == json(false) || value == json(0) || value == json("") ||
                        (value.is_structured() && value.empty());
    if (is_off) return absl::OkStatus();
    return Expected(source, value,
                    absl::StrCat("nothing: the recipe of ", family_.name, " has no such rule"));
  }

  const std::string& path_;
  const Family& family_;
  const std::optional<uint32_t> reset_token_;
  StatedRecipe& stated_;
  std::set<RecipeParameter> of_owner_;    // that the owner has a key of
  std::set<RecipeParameter> by_own_key_;  // of these, by a key of the family's own
  std::vector<std::string> notes_;
  size_t keys_ = 0;
};

// The keys of the owner, where there is one, and the generic ones of the objects that count. What
// is more exact comes first: others are held against it.
absl::Status ReadObjects(const ConfigObjects& objects, const ConfigObject* owner,
                         KeyReader& reader) {
  if (owner == nullptr) {
    for (auto object = objects.rbegin(); object != objects.rend(); ++object) {
      if ((*object)->around != nullptr && !(*object)->is_text_model) continue;
      ENGRAM_RETURN_IF_ERROR(reader.ReadGeneric(**object, /*is_around=*/false));
    }
    return absl::OkStatus();
  }
  ENGRAM_RETURN_IF_ERROR(reader.ReadOwner(*owner, /*ratios=*/false));
  for (const ConfigObject* at = owner->around; at != nullptr; at = at->around) {
    ENGRAM_RETURN_IF_ERROR(reader.ReadGeneric(*at, /*is_around=*/true));
  }
  for (const auto& object : objects) {
    if (!object->is_text_model || object.get() == owner || !IsWithin(*object, *owner)) continue;
    ENGRAM_RETURN_IF_ERROR(reader.ReadGeneric(*object, /*is_around=*/false));
  }
  for (const auto& object : objects) {
    if (!object->is_text_model || IsWithin(*object, *owner) || IsWithin(*owner, *object)) continue;
    reader.LeaveOut(*object, *owner);
  }
  return reader.ReadOwner(*owner, /*ratios=*/true);
}

// The unknown keys of the family's own, which may or may not enter the addresses.
std::vector<std::string> UnreadKeys(const ConfigObject& object, ConfigKeys keys) {
  std::vector<std::string> unread;
  const absl::Span<const ConfigKey> known = ConfigKeysOf(keys);
  for (const auto& [name, value] : object.object->items()) {
    const bool is_known =
        absl::c_any_of(known, [&key = name](const ConfigKey& each) { return each.key == key; });
    if (value.is_null() || value.is_object() || is_known || !IsOwnKey(keys, name)) continue;
    if (unread.size() < kMaxListed) unread.push_back(QuoteForMessage(name));
  }
  return unread;
}

}  // namespace

absl::StatusOr<ConfigReport> ReadCheckpointConfig(const std::string& directory,
                                                  const Family& family,
                                                  std::optional<uint32_t> reset_token,
                                                  StatedRecipe& stated) {
  const std::string path = JoinPath(directory, "config.json");
  ConfigReport report;
  absl::StatusOr<std::string> text = ReadCheckpointText(path, kMaxConfigBytes);
  if (absl::IsNotFound(text.status())) {
    report.not_compared = absl::StrCat("there is no ", path);
    return report;
  }
  if (!text.ok()) return text.status();
  ENGRAM_ASSIGN_OR_RETURN(const json config, ParseConfig(*text, path));
  const ConfigObjects objects = CollectObjects(config);
  ENGRAM_ASSIGN_OR_RETURN(const ConfigObject* owner, FindOwner(objects, family, path));
  KeyReader reader(path, family, reset_token, stated);
  ENGRAM_RETURN_IF_ERROR(ReadObjects(objects, owner, reader));
  if (owner != nullptr) report.unread = UnreadKeys(*owner, family.config_keys);
  report.notes = reader.TakeNotes();
  if (reader.keys() == 0) {
    report.not_compared = absl::StrCat(path, " holds no key of the family ", family.name);
  }
  return report;
}

}  // namespace engram
