#include "memstore/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr absl::string_view kKnownModels[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};

std::string Shown(const json& value) {
  return QuoteForMessage(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

// What the file says, before it is held together.
struct Parts {
  std::vector<Token> vocabulary;
  bool has_vocabulary = false;
  bool listed = false;  // the vocabulary is an array: the ids are places in it
  std::vector<Token> added;
  json model_type;
  json decoder;
};

// Goes through the text. Levels: the file's object is 1, `model` 2, its vocabulary 3, an entry of a
// vocabulary that is an array 4; `added_tokens` 2, an added token 3.
class Reader : public nlohmann::json_sax<json> {
 public:
  const absl::Status& status() const { return status_; }
  Parts& parts() { return parts_; }

  bool null() override { return Scalar(nullptr); }
  bool boolean(bool value) override { return Scalar(value); }
  bool number_integer(number_integer_t value) override { return Scalar(value); }
  bool number_unsigned(number_unsigned_t value) override { return Scalar(value); }
  bool number_float(number_float_t value, const string_t&) override { return Scalar(value); }
  bool string(string_t& value) override { return Scalar(std::move(value)); }
  bool binary(binary_t&) override { return Fail("it holds binary data"); }
  bool start_object(size_t) override { return Enter(/*is_array=*/false); }
  bool start_array(size_t) override { return Enter(/*is_array=*/true); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& key) override {
    levels_.back().key = std::move(key);
    const std::string& name = levels_.back().key;
    if (levels_.size() == 1) {
      section_ = SectionOf(name);
    } else if (levels_.size() == 2 && section_ >= Section::kModel) {
      section_ = name == "vocab"  ? Section::kVocabulary
                 : name == "type" ? Section::kModelType
                                  : Section::kModel;
    }
    const bool counts = section_ != Section::kOther && section_ != Section::kModel;
    const bool begins = levels_.size() == (section_ >= Section::kModel ? 2 : 1);
    if (counts && begins && !seen_.insert(section_).second) {
      return Fail(absl::StrCat("it holds ", QuoteForMessage(name),
                               " twice: which one counts nobody can tell"));
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&, const json::exception& error) override {
    const bool encoding = absl::StrContains(error.what(), "UTF-8");
    return Fail(
        absl::StrCat(encoding ? "it is not UTF-8" : "it is no JSON", " at byte ", position));
  }

 private:
  // Those of the model last: key() tells them by that.
  enum class Section { kOther, kAdded, kDecoder, kModel, kModelType, kVocabulary };
  struct Level {
    bool is_array;
    std::string key;
  };

  static Section SectionOf(const std::string& name) {
    if (name == "added_tokens") return Section::kAdded;
    if (name == "decoder") return Section::kDecoder;
    return name == "model" ? Section::kModel : Section::kOther;
  }

  bool Fail(std::string what) {
    status_ = absl::InvalidArgumentError(std::move(what));
    return false;
  }

  bool Enter(bool is_array) {
    if (levels_.empty() && is_array) return Fail("it is no JSON object");
    if (levels_.size() == kMaxTokenizerNesting) {
      return Fail(absl::StrCat("it nests deeper than ", kMaxTokenizerNesting));
    }
    if (section_ == Section::kDecoder) {
      json* const place = AddToDecoder(is_array ? json::array() : json::object());
      if (place == nullptr) return false;
      open_.push_back(place);
    }
    if (section_ == Section::kVocabulary && !EnterVocabulary(is_array)) return false;
    if (section_ == Section::kAdded && levels_.size() == 1 && !is_array) {
      return Fail("\"added_tokens\" is no list of tokens");
    }
    if (section_ == Section::kModelType) return Fail("the model's \"type\" is no string");
    levels_.push_back({is_array, ""});
    return true;
  }

  // Of the vocabulary, and in it no more than the lists of a listed one's pieces.
  bool EnterVocabulary(bool is_array) {
    const absl::string_view what = is_array ? "a list" : "an object";
    if (levels_.size() == 2) {
      parts_.has_vocabulary = true;
      parts_.listed = is_array;
      return true;
    }
    if (!parts_.listed) {
      return Fail(absl::StrCat("the vocabulary gives the token ",
                               QuoteForMessage(levels_.back().key), " ", what,
                               " in place of an id"));
    }
    if (levels_.size() == 3 && is_array) return true;
    return Fail(absl::StrCat("entry ", parts_.vocabulary.size(), " of its vocabulary ",
                             levels_.size() == 3 ? "is " : "holds ", what,
                             ", and not a piece and its score alone"));
  }

  bool Leave() {
    levels_.pop_back();
    if (!open_.empty()) open_.pop_back();
    if (section_ == Section::kAdded && levels_.size() == 2) return EndAdded();
    if (section_ == Section::kVocabulary && parts_.listed && levels_.size() == 3) return EndPiece();
    if (levels_.size() == 1) section_ = Section::kOther;
    return true;
  }

  bool Scalar(json value) {
    if (levels_.empty()) return Fail("it is no JSON object");
    switch (section_) {
      case Section::kAdded:
        return AddedField(std::move(value));
      case Section::kDecoder:
        return AddToDecoder(std::move(value)) != nullptr;
      case Section::kModelType:
        parts_.model_type = std::move(value);
        return true;
      case Section::kVocabulary:
        if (levels_.size() == 3 && !parts_.listed) return Word(value);
        if (levels_.size() == 4 && parts_.listed) return PieceField(std::move(value));
        return Fail(absl::StrCat("its vocabulary holds ", Shown(value),
                                 " where a token and its id, or a piece and its score, belong"));
      case Section::kModel:
      case Section::kOther:
        return true;
    }
    return true;
  }

  // "token": id
  bool Word(const json& id) {
    return Take(levels_.back().key, id, "the vocabulary", parts_.vocabulary);
  }

  // ["piece", score]: the id is the place in the list.
  bool PieceField(json value) {
    if (piece_fields_++ == 0) {
      if (!value.is_string())
        return Fail(absl::StrCat("a piece of its vocabulary is ", Shown(value)));
      piece_ = std::move(value.get_ref<std::string&>());
      return true;
    }
    return value.is_number() || Fail(absl::StrCat("the score of the piece ",
                                                  QuoteForMessage(piece_), " is ", Shown(value)));
  }
  bool EndPiece() {
    if (piece_fields_ != 2) {
      return Fail(absl::StrCat("entry ", parts_.vocabulary.size(),
                               " of its vocabulary is no piece with a score"));
    }
    piece_fields_ = 0;
    return Take(piece_, parts_.vocabulary.size(), "the vocabulary", parts_.vocabulary);
  }

  bool AddedField(json value) {
    if (levels_.size() == 1 && value.is_null()) return true;
    if (levels_.size() != 3 || levels_[1].is_array == false || levels_[2].is_array) {
      return levels_.size() > 3 || Fail("\"added_tokens\" is no list of tokens");
    }
    const std::string& key = levels_.back().key;
    if (key != "id" && key != "content") return true;
    std::optional<json>& field = key == "id" ? added_id_ : added_content_;
    if (field) return Fail(absl::StrCat("an added token holds \"", key, "\" twice"));
    field = std::move(value);
    return true;
  }
  bool EndAdded() {
    if (!added_id_ || !added_content_ || !added_content_->is_string()) {
      return Fail(absl::StrCat("entry ", parts_.added.size(), " of \"added_tokens\" has no ",
                               added_id_ ? "\"content\" that is a string" : "\"id\""));
    }
    const bool taken =
        Take(added_content_->get_ref<std::string&>(), *added_id_, "\"added_tokens\"", parts_.added);
    added_id_.reset();
    added_content_.reset();
    return taken;
  }

  bool Take(std::string raw, const json& id, absl::string_view where, std::vector<Token>& to) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxTokenIds) {
      return Fail(absl::StrCat(where, " gives the token ", QuoteForMessage(raw), " the id ",
                               Shown(id), ", must be 0..", kMaxTokenIds - 1));
    }
    if (raw.size() > kMaxTokenBytes) {
      return Fail(absl::StrCat(where, ": the token with id ", Shown(id), " has ", raw.size(),
                               " bytes, the limit is ", kMaxTokenBytes));
    }
    if (parts_.vocabulary.size() + parts_.added.size() == kMaxTokens) {
      return Fail(absl::StrCat(
          "it has more than ", kMaxTokens,
          " tokens, and a map is made of so many at most: the "
          "largest published vocabularies have some 260,000. If it is right, make the map with the "
          "model's own code and give it to `engram pack --token-map FILE`"));
    }
    to.push_back({id.get<uint32_t>(), std::move(raw)});
    return true;
  }

  // Where it stands in the tree; nullptr after an error.
  json* AddToDecoder(json value) {
    if (open_.empty()) return &(parts_.decoder = std::move(value));
    json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    const std::string& key = levels_.back().key;
    const auto [place, is_new] = parent.emplace(key, std::move(value));
    if (is_new) return &*place;
    Fail(absl::StrCat("its decoder holds ", QuoteForMessage(key), " twice"));
    return nullptr;
  }

  absl::Status status_;
  Parts parts_;
  std::vector<Level> levels_;
  Section section_ = Section::kOther;
  absl::flat_hash_set<Section> seen_;
  std::string piece_;
  size_t piece_fields_ = 0;
  std::optional<json> added_id_;
  std::optional<json> added_content_;
  std::vector<json*> open_;  // from the decoder's root down
};

absl::Status CheckModel(const Parts& parts) {
  if (!parts.has_vocabulary) {
    return absl::InvalidArgumentError(
        "it holds no \"model\" with a \"vocab\": is it the model's tokenizer.json?");
  }
  // Files from before models said their type have none.
  if (parts.model_type.is_null()) return absl::OkStatus();
  for (const absl::string_view known : kKnownModels) {
    if (parts.model_type == std::string(known)) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "its model is of the type ", Shown(parts.model_type), ", which is not known here"));
}

absl::Status TwoTokens(uint32_t id, const std::string& one, const std::string& other) {
  return absl::InvalidArgumentError(absl::StrCat(
      "the id ", id, " has two tokens: ", QuoteForMessage(one), " and ", QuoteForMessage(other)));
}

absl::Status TwoIds(const std::string& token, uint32_t one, uint32_t other) {
  return absl::InvalidArgumentError(
      absl::StrCat("the token ", QuoteForMessage(token), " has two ids: ", one, " and ", other));
}

using IdsOfTokens = absl::flat_hash_map<absl::string_view, uint32_t>;

// In a list the same piece may come again: an id is a place there, and each has its own.
absl::StatusOr<IdsOfTokens> IdsOf(const std::vector<Token>& vocabulary, bool listed) {
  IdsOfTokens ids;
  ids.reserve(vocabulary.size());
  for (const Token& token : vocabulary) {
    const auto [known, is_new] = ids.try_emplace(token.raw, token.id);
    if (!is_new && !listed) return TwoIds(token.raw, known->second, token.id);
  }
  return ids;
}

// Added tokens that the vocabulary holds as well are the same ones; a library that reads the file
// goes by the text of an added token and not by its id, so the two have to agree.
absl::StatusOr<std::vector<Token>> Unite(Parts& parts) {
  ENGRAM_ASSIGN_OR_RETURN(IdsOfTokens ids, IdsOf(parts.vocabulary, parts.listed));
  absl::flat_hash_map<uint32_t, absl::string_view> words;
  words.reserve(parts.vocabulary.size());
  for (const Token& token : parts.vocabulary) {
    const auto [known, is_new] = words.try_emplace(token.id, token.raw);
    if (!is_new) return TwoTokens(token.id, std::string(known->second), token.raw);
  }
  std::vector<size_t> more;
  for (size_t i = 0; i < parts.added.size(); ++i) {
    const Token& token = parts.added[i];
    const auto [at_id, is_new] = words.try_emplace(token.id, token.raw);
    if (!is_new && at_id->second != token.raw) {
      return TwoTokens(token.id, std::string(at_id->second), token.raw);
    }
    const auto [at_token, is_new_token] = ids.try_emplace(token.raw, token.id);
    if (is_new && !is_new_token) return TwoIds(token.raw, at_token->second, token.id);
    if (is_new) more.push_back(i);
  }
  // Only now: the maps look into the strings.
  std::vector<Token> tokens = std::move(parts.vocabulary);
  for (const size_t i : more) tokens.push_back(std::move(parts.added[i]));
  std::sort(tokens.begin(), tokens.end(),
            [](const Token& a, const Token& b) { return a.id < b.id; });
  return tokens;
}

}  // namespace

absl::StatusOr<TokenizerFile> ParseTokenizerJson(absl::string_view text) {
  Reader reader;
  json::sax_parse(text.begin(), text.end(), &reader);
  ENGRAM_RETURN_IF_ERROR(reader.status());
  Parts& parts = reader.parts();
  ENGRAM_RETURN_IF_ERROR(CheckModel(parts));
  TokenizerFile file;
  ENGRAM_ASSIGN_OR_RETURN(file.tokens, Unite(parts));
  if (file.tokens.empty()) return absl::InvalidArgumentError("its vocabulary is empty");
  file.decoder = std::move(parts.decoder);
  return file;
}

}  // namespace engram
