#include "memstore/recipe/gguf_keys.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/recipe/config_keys.h"
#include "memstore/recipe/image_token_ids.h"

namespace engram {
namespace {

using P = RecipeParameter;

enum class Form {
  kNumbers,
  kEqualNumbers,  // a number, or a list of equal ones
  kLayers,        // numbers from 0, or a truth value a layer
  kFrom1,         // layers that are counted from 1
  kVocabRatio,    // what the vocabulary is multiplied by; it stands behind that
  kMultipliers,
  kModuli,
  kOffsets,
  kTokenMap,
  kPad,            // the token's id, or what that is compressed to
  kCompressedPad,  // the second alone
  kEncoding,
  kImageTokens,
  kAllIds,  // of the model, of which fewer may be hashed
  kOff,     // what the recipe lacks: must be false, 0 or empty
  kApart,   // known, and nothing that enters an address
};

struct Key {
  absl::string_view suffix;  // behind the architecture's name and a dot
  Form form;
  std::optional<P> parameter = std::nullopt;
};

// As converters to GGUF spell them.
constexpr Key kEngramKeys[] = {
    {"engram.layer_ids", Form::kLayers, P::kLayers},
    {"engram.layers", Form::kLayers, P::kLayers},
    {"engram.max_ngram_size", Form::kNumbers, P::kMaxOrder},
    {"engram.ngram_size", Form::kNumbers, P::kMaxOrder},
    {"engram.head_count", Form::kNumbers, P::kHeadsPerOrder},
    {"engram.n_heads", Form::kNumbers, P::kHeadsPerOrder},
    {"engram.key_length", Form::kNumbers, P::kRowValues},
    {"engram.head_dim", Form::kNumbers, P::kRowValues},
    {"engram.vocab_size", Form::kEqualNumbers, P::kBaseRows},
    {"engram.num_embeddings", Form::kNumbers, P::kLayerRows},
    {"engram.embedding_counts", Form::kNumbers, P::kLayerRows},
    {"engram.rows", Form::kNumbers, P::kLayerRows},
    {"engram.compressed_vocab_size", Form::kNumbers, P::kCompressedVocabSize},
    {"engram.pad_token_id", Form::kNumbers, P::kPadToken},
    {"engram.seed", Form::kNumbers, P::kSeed},
    {"engram.pad_id", Form::kPad},
    {"engram.pad_id_compressed", Form::kCompressedPad},
    {"engram.multipliers", Form::kMultipliers},
    {"engram.hash_multipliers", Form::kMultipliers},
    {"engram.primes", Form::kModuli},
    {"engram.hash_primes", Form::kModuli},
    {"engram.head_bucket_sizes", Form::kModuli},
    {"engram.offsets", Form::kOffsets},
    {"engram.hash_offsets", Form::kOffsets},
    {"engram.head_offsets", Form::kOffsets},
    {"engram.token_map", Form::kTokenMap},
    {"engram.encoding", Form::kEncoding},
    {"vocab_size", Form::kNumbers, P::kTextVocabSize},
};
constexpr Key kPleKeys[] = {
    {"ple.layers", Form::kLayers, P::kLayers},
    {"ple.ngram_size", Form::kNumbers, P::kMaxOrder},
    {"ple.heads_per_ngram", Form::kNumbers, P::kHeadsPerOrder},
    {"ple.row_length", Form::kNumbers, P::kRowValues},
    {"ple.eos_token_id", Form::kNumbers, P::kResetToken},
    {"ple.seed", Form::kNumbers, P::kSeed},
    {"ple.layer_multipliers", Form::kMultipliers},
    {"ple.head_vocab_sizes", Form::kModuli},
    {"ple.head_offsets", Form::kOffsets},
    {"ple.encoding", Form::kEncoding},
    {"ple.conv_kernel", Form::kApart},
    {"embedding_length_per_layer_input", Form::kNumbers, P::kRowValues},
    {"vocab_size", Form::kNumbers, P::kVocabSize},
};
constexpr Key kOverEmbeddingKeys[] = {
    {"ngram.neighbor_num", Form::kNumbers, P::kMaxOrder},
    {"ngram.split_num", Form::kNumbers, P::kHeadsPerOrder},
    {"ngram.vocab_size_ratio", Form::kVocabRatio, P::kBaseRows},
    {"ngram.base_vocab_size", Form::kNumbers, P::kVocabSize},
    {"text_vocab_size", Form::kNumbers, P::kVocabSize},
    {"vocab_size", Form::kAllIds, P::kVocabSize},
    {"ngram.ignored_token_id_count", Form::kOff},
    {"ngram.ignored_token_id_start", Form::kApart},
};

absl::Span<const Key> KeysOf(ConfigKeys keys) {
  switch (keys) {
    case ConfigKeys::kEngram:
      return kEngramKeys;
    case ConfigKeys::kPle:
      return kPleKeys;
    case ConfigKeys::kOverEmbedding:
      return kOverEmbeddingKeys;
  }
  return {};
}

absl::string_view OwnPrefix(ConfigKeys keys) {
  return keys == ConfigKeys::kEngram ? "engram." : keys == ConfigKeys::kPle ? "ple." : "ngram.";
}

// What follows the architecture's name; empty for the keys of every model.
absl::string_view SuffixOf(absl::string_view key) {
  const size_t dot = key.find('.');
  if (dot == absl::string_view::npos) return "";
  const absl::string_view architecture = key.substr(0, dot);
  for (const absl::string_view other : {"general", "tokenizer", "split", "quantize", "imatrix"}) {
    if (architecture == other) return "";
  }
  return key.substr(dot + 1);
}

std::optional<Form> FormOf(KeyForm form) {
  switch (form) {
    case KeyForm::kNumber:
    case KeyForm::kNumbers:
    case KeyForm::kEndToken:
      return Form::kNumbers;
    case KeyForm::kEqualNumbers:
      return Form::kEqualNumbers;
    case KeyForm::kNumbersFrom1:
      return Form::kFrom1;
    case KeyForm::kVocabRatio:
      return Form::kVocabRatio;
    case KeyForm::kOff:
      return Form::kOff;
    case KeyForm::kApart:
      return Form::kApart;
  }
  return std::nullopt;
}

// Some converters keep config.json's own names behind the architecture's.
std::optional<Key> FindKey(ConfigKeys keys, absl::string_view suffix) {
  for (const Key& key : KeysOf(keys)) {
    if (key.suffix == suffix) return key;
  }
  if (IsImageTokenKey(suffix)) return Key{suffix, Form::kImageTokens};
  for (const ConfigKey& key : ConfigKeysOf(keys)) {
    if (key.reach != KeyReach::kOwn || key.key != suffix) continue;
    if (const std::optional<Form> form = FormOf(key.form))
      return Key{key.key, *form, key.parameter};
  }
  return std::nullopt;
}

std::string Text(const GgufValue& value) {
  if (value.kind == GgufValue::Kind::kText)
    return absl::StrCat("\"", QuoteForMessage(value.text), "\"");
  if (value.kind == GgufValue::Kind::kOther) return "a list of texts";
  std::string text = value.kind == GgufValue::Kind::kReal ? absl::StrJoin(value.reals, ", ")
                                                          : absl::StrJoin(value.numbers, ", ");
  return QuoteForMessage(value.is_list ? absl::StrCat("[", text, "]") : text);
}

class KeyReader {
 public:
  KeyReader(const Family& family, StatedRecipe& stated) : family_(family), stated_(stated) {}

  absl::Status Read(const Key& key, const std::string& source, const GgufValue& value) {
    if (key.form == Form::kApart) return absl::OkStatus();
    if (key.form == Form::kImageTokens) return AddImageTokens(source, value);
    // What only bounds the token map, or names the rows, says nothing of the constants.
    if (key.form != Form::kEncoding && key.parameter != P::kTextVocabSize) ++report_.keys;
    switch (key.form) {
      case Form::kMultipliers:
        return Store(source, value, report_.multipliers);
      case Form::kModuli:
        return Store(source, value, report_.moduli);
      case Form::kOffsets:
        return Store(source, value, report_.offsets);
      case Form::kTokenMap:
        return Store(source, value, report_.token_map);
      case Form::kPad:
        return Store(source, value, report_.pad);
      case Form::kCompressedPad:
        return Store(source, value, report_.compressed_pad);
      case Form::kEncoding:
        return StoreEncoding(source, value);
      case Form::kVocabRatio:
        return StateRatio(source, value);
      case Form::kAllIds:
        all_ids_.emplace_back(source, value);
        return absl::OkStatus();
      case Form::kOff:
        return CheckOff(source, value);
      default:
        return State(key, source, value);
    }
  }
  // All ids of the model, where no key says how many are hashed: they are taken where a ratio holds
  // the table's rows against them.
  absl::Status ReadAllIds(bool has_ratio) {
    if (stated_.Find(P::kVocabSize) != nullptr) return absl::OkStatus();
    for (const auto& [source, value] : all_ids_) {
      ENGRAM_RETURN_IF_ERROR(CheckWhole(source, value));
      if (!has_ratio && value.numbers != std::vector<int64_t>{family_.vocab_size}) {
        return Expected(source, value,
                        absl::StrCat(family_.vocab_size, " as of ", family_.name,
                                     ": more ids than are hashed may be counted, and no key "
                                     "ngram.base_vocab_size or ngram.vocab_size_ratio says"));
      }
      ENGRAM_RETURN_IF_ERROR(State({"", Form::kNumbers, P::kVocabSize}, source, value));
    }
    return absl::OkStatus();
  }
  GgufKeysReport& report() { return report_; }

 private:
  absl::Status Expected(const std::string& source, const GgufValue& value,
                        absl::string_view expected) const {
    return absl::FailedPreconditionError(
        absl::StrCat(source, " is ", Text(value), ", expected ", expected));
  }

  absl::Status CheckWhole(const std::string& source, const GgufValue& value) const {
    if (value.kind != GgufValue::Kind::kWhole || value.numbers.empty()) {
      return Expected(source, value, "whole numbers");
    }
    if (!value.too_large) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(source, " holds a number beyond 2^63 - 1, which no constant is"));
  }

  absl::Status Store(const std::string& source, const GgufValue& value,
                     std::optional<StoredNumbers>& out) {
    ENGRAM_RETURN_IF_ERROR(CheckWhole(source, value));
    if (!out) {
      out = StoredNumbers{source, value.numbers};
      return absl::OkStatus();
    }
    if (out->values == value.numbers) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        out->source, " and ", source, " are the same constants with different values: [",
        QuoteForMessage(absl::StrJoin(out->values, ", ")), "] and ", Text(value)));
  }

  absl::Status StoreEncoding(const std::string& source, const GgufValue& value) {
    if (value.kind != GgufValue::Kind::kText) return Expected(source, value, "a text");
    if (!report_.encoding_source.empty() && report_.encoding != value.text) {
      return absl::FailedPreconditionError(
          absl::StrCat(report_.encoding_source, " is \"", QuoteForMessage(report_.encoding),
                       "\" and ", source, " is ", Text(value), ": both name what the rows are"));
    }
    report_.encoding = value.text;
    report_.encoding_source = source;
    return absl::OkStatus();
  }

  // As of config.json: below 0 it stands for no token of the text.
  absl::Status AddImageTokens(const std::string& source, const GgufValue& value) {
    const bool are_ids = value.kind == GgufValue::Kind::kWhole && !value.too_large &&
                         absl::c_all_of(value.numbers, [](int64_t id) { return id <= INT32_MAX; });
    if (!are_ids) return Expected(source, value, kImageTokenIdExpected);
    for (const int64_t id : value.numbers) {
      if (id < 0) continue;
      report_.image_token_ids.insert(static_cast<int32_t>(id));
      if (report_.image_token_ids.size() <= kMaxConfigImageTokens) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("with ", source, " the metadata name more than ", kMaxConfigImageTokens,
                       " token ids of images: remove the keys that are none of them"));
    }
    return absl::OkStatus();
  }

  absl::Status State(const Key& key, const std::string& source, const GgufValue& value) {
    ENGRAM_CHECK(key.parameter.has_value(), "a key that states nothing");
    std::vector<uint64_t> numbers;
    if (key.form == Form::kLayers && value.kind == GgufValue::Kind::kBool) {
      for (size_t layer = 0; layer < value.numbers.size(); ++layer) {
        if (value.numbers[layer] != 0) numbers.push_back(layer);
      }
      return stated_.State(*key.parameter, {numbers, source, Text(value)});
    }
    ENGRAM_RETURN_IF_ERROR(CheckWhole(source, value));
    for (const int64_t number : value.numbers) {
      const int64_t from = key.form == Form::kFrom1 ? 1 : 0;
      if (number < from) {
        return Expected(
            source, value,
            from == 1 ? "layers that are counted from 1" : "no number that is negative");
      }
      numbers.push_back(static_cast<uint64_t>(number - from));
    }
    const bool takes_list = key.parameter == P::kLayers || key.parameter == P::kLayerRows;
    if (key.form == Form::kEqualNumbers) {
      for (const uint64_t number : numbers) {
        if (number != numbers[0]) {
          return Expected(source, value, "equal numbers: there is one base size for all orders");
        }
      }
      numbers.resize(1);
    } else if (numbers.size() > 1 && !takes_list) {
      return Expected(source, value, "one number");
    }
    return stated_.State(*key.parameter, {std::move(numbers), source, Text(value)});
  }

  // Rounded as of config.json. A ratio that is a float there has fewer digits than a double.
  absl::Status StateRatio(const std::string& source, const GgufValue& value) {
    const RecipeStatement* const said = stated_.Find(P::kVocabSize);
    const uint64_t vocab = said != nullptr ? said->values[0] : family_.vocab_size;
    const double ratio = value.kind == GgufValue::Kind::kReal && value.reals.size() == 1
                             ? value.reals[0]
                         : value.kind == GgufValue::Kind::kWhole && value.numbers.size() == 1
                             ? static_cast<double>(value.numbers[0])
                             : 0;
    // Also of what is no number.
    if (!(ratio > 0 && ratio * static_cast<double>(vocab) < static_cast<double>(kMaxLayerRows))) {
      return Expected(source, value, "a positive number of times the vocabulary");
    }
    const auto rows = static_cast<uint64_t>(ratio * static_cast<double>(vocab));
    return stated_.State(P::kBaseRows, {{rows},
                                        source,
                                        absl::StrCat(Text(value), " (with ", vocab,
                                                     " token ids: ", rows, " rows)")});
  }

  absl::Status CheckOff(const std::string& source, const GgufValue& value) const {
    const auto is_zero = [](auto number) { return number == 0; };
    // Of a list of texts nothing is kept, not even whether it is empty.
    const bool is_off = std::all_of(value.numbers.begin(), value.numbers.end(), is_zero) &&
                        std::all_of(value.reals.begin(), value.reals.end(), is_zero) &&
                        value.text.empty() && value.kind != GgufValue::Kind::kOther;
    if (is_off) return absl::OkStatus();
    return Expected(source, value,
                    absl::StrCat("nothing: the recipe of ", family_.name, " has no such rule"));
  }

  const Family& family_;
  StatedRecipe& stated_;
  GgufKeysReport report_;
  std::vector<std::pair<std::string, GgufValue>> all_ids_;
};

}  // namespace

bool IsGgufRecipeKey(absl::string_view key) {
  const absl::string_view suffix = SuffixOf(key);
  for (const ConfigKeys keys :
       {ConfigKeys::kEngram, ConfigKeys::kPle, ConfigKeys::kOverEmbedding}) {
    if (absl::StartsWith(suffix, OwnPrefix(keys)) || IsOwnKey(keys, suffix) ||
        FindKey(keys, suffix)) {
      return true;
    }
  }
  return false;
}

absl::StatusOr<GgufKeysReport> ReadGgufKeys(const GgufModel& model, const Family& family,
                                            StatedRecipe& stated) {
  KeyReader reader(family, stated);
  bool has_ratio = false;
  for (const auto& [name, entry] : model.metadata()) {
    const std::optional<Key> key = FindKey(family.config_keys, SuffixOf(name));
    has_ratio |= key && key->form == Form::kVocabRatio;
  }
  // A ratio is one of what another key says.
  for (const bool ratios : {false, true}) {
    for (const auto& [name, entry] : model.metadata()) {
      const absl::string_view suffix = SuffixOf(name);
      const std::string source = absl::StrCat(entry.file, ": ", QuoteForMessage(name));
      const std::optional<Key> key = FindKey(family.config_keys, suffix);
      if (key && (key->form == Form::kVocabRatio) == ratios) {
        ENGRAM_RETURN_IF_ERROR(reader.Read(*key, source, entry.value));
      }
      const bool is_own = absl::StartsWith(suffix, OwnPrefix(family.config_keys)) ||
                          IsOwnKey(family.config_keys, suffix);
      if (!key && is_own && !ratios) reader.report().unread.push_back(QuoteForMessage(name));
    }
    if (!ratios) ENGRAM_RETURN_IF_ERROR(reader.ReadAllIds(has_ratio));
  }
  return std::move(reader.report());
}

}  // namespace engram
