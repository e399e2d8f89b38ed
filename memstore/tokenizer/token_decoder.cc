#include "memstore/tokenizer/token_decoder.h"

#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

using nlohmann::json;

constexpr char kReplacementCharacter[] = "\xEF\xBF\xBD";  // U+FFFD

std::string Shown(const json& value) {
  return QuoteForMessage(value.dump(-1, ' ', false, json::error_handler_t::replace));
}

// Calls `each` with every code point of a valid text and the bytes that it stands in.
template <typename Each>
void ForEachCodePoint(absl::string_view text, Each each) {
  const auto length = static_cast<int32_t>(text.size());
  for (int32_t at = 0; at < length;) {
    const int32_t begin = at;
    UChar32 c;
    U8_NEXT(text.data(), at, length, c);  // NOLINT(bugprone-inc-dec-in-conditions): ICU's macro
    each(c, text.substr(begin, at - begin));
  }
}

// What a field holds: absent or of another type, INVALID_ARGUMENT.
absl::Status NoField(const json& decoder, const char* name, absl::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("its decoder ", Shown(decoder), " has no \"", name, "\" that is ", wanted));
}

absl::StatusOr<std::string> StringOf(const json& decoder, const char* name) {
  const auto found = decoder.find(name);
  if (found == decoder.end() || !found->is_string()) return NoField(decoder, name, "a string");
  const std::string& text = found->get_ref<const std::string&>();
  if (text.size() > kMaxDecoderStringBytes) {
    return NoField(decoder, name,
                   absl::StrCat("a string of at most ", kMaxDecoderStringBytes, " bytes"));
  }
  return text;
}

absl::StatusOr<UChar32> CharacterOf(const json& decoder, const char* name) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string text, StringOf(decoder, name));
  UChar32 character = 0;
  int characters = 0;
  ForEachCodePoint(text, [&](UChar32 c, absl::string_view) {
    character = c;
    ++characters;
  });
  if (characters != 1) return NoField(decoder, name, "one character");
  return character;
}

absl::StatusOr<uint64_t> CountOf(const json& decoder, const char* name) {
  const auto found = decoder.find(name);
  if (found == decoder.end() || !found->is_number_unsigned()) {
    return NoField(decoder, name, "a whole number");
  }
  return found->get<uint64_t>();
}

// The bytes that the characters of a byte-level vocabulary stand for: printable Latin-1 characters
// for themselves, those from U+0100 on for the other bytes in turn. -1: none.
constexpr int kByteCharacters = 0x100 + 68;
std::array<int16_t, kByteCharacters> MakeByteOfCharacter() {
  std::array<int16_t, kByteCharacters> bytes;
  bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 0x100; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    bytes[itself ? byte : next++] = static_cast<int16_t>(byte);
  }
  return bytes;
}

// A token with a character that stands for no byte is text already.
std::string DecodeByteLevel(absl::string_view token) {
  static const std::array<int16_t, kByteCharacters> byte_of = MakeByteOfCharacter();
  std::string bytes;
  bool all = true;
  ForEachCodePoint(token, [&](UChar32 c, absl::string_view) {
    const int byte = c < kByteCharacters ? byte_of[c] : -1;
    all &= byte >= 0;
    bytes.push_back(static_cast<char>(byte));
  });
  if (!all) return std::string(token);
  std::string text;
  icu::UnicodeString::fromUTF8(bytes).toUTF8String(text);
  return text;
}

// "<0x41>" is the byte 0x41.
std::string DecodeByteFallback(absl::string_view token) {
  absl::string_view digits = token;
  if (token.size() != 6 || !absl::ConsumePrefix(&digits, "<0x") ||
      !absl::ConsumeSuffix(&digits, ">")) {
    return std::string(token);
  }
  // The library that the files are for takes a sign: "<0x+A>".
  if (digits[0] == '+') digits.remove_prefix(1);
  for (const char digit : digits) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(digit))) return std::string(token);
  }
  uint32_t byte = 0;
  if (!absl::SimpleHexAtoi(digits, &byte)) return std::string(token);
  return byte < 0x80 ? std::string(1, static_cast<char>(byte)) : kReplacementCharacter;
}

// Of a list's first token every replacement goes, not the first alone, where one was put before
// it.
std::string DecodeMetaspace(absl::string_view token, UChar32 replacement, bool dropped) {
  std::string text;
  ForEachCodePoint(token, [&](UChar32 c, absl::string_view bytes) {
    if (c != replacement) {
      absl::StrAppend(&text, bytes);
    } else if (!dropped) {
      text.push_back(' ');
    }
  });
  return text;
}

std::string DecodeStrip(absl::string_view token, UChar32 content, uint64_t start, uint64_t stop) {
  std::vector<absl::string_view> characters;
  std::vector<bool> same;
  ForEachCodePoint(token, [&](UChar32 c, absl::string_view bytes) {
    characters.push_back(bytes);
    same.push_back(c == content);
  });
  size_t begin = 0, end = characters.size();
  while (begin < end && begin < start && same[begin]) ++begin;
  const size_t whole = end;
  while (end > begin && whole - end < stop && same[end - 1]) --end;
  std::string text;
  for (size_t i = begin; i < end; ++i) absl::StrAppend(&text, characters[i]);
  return text;
}

// What a word-piece decoder tidies, in its order.
std::string TidyWordPieces(absl::string_view token) {
  constexpr std::pair<absl::string_view, absl::string_view> kTidied[] = {
      {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  std::string text(token);
  for (const auto& tidied : kTidied) text = absl::StrReplaceAll(text, {tidied});
  return text;
}

// Whether the token that stands first loses its replacement characters.
absl::StatusOr<bool> MetaspaceDrops(const json& decoder) {
  bool drops = true;
  const auto scheme = decoder.find("prepend_scheme");
  if (scheme != decoder.end()) {
    drops = *scheme == "always" || *scheme == "first";
    if (!drops && *scheme != "never") {
      return NoField(decoder, "prepend_scheme", "always, first or never");
    }
  }
  // Older files have this alone; in newer ones true says nothing.
  const auto old = decoder.find("add_prefix_space");
  if (old == decoder.end() || old->is_null() || *old == true) return drops;
  if (*old != false) return NoField(decoder, "add_prefix_space", "true or false");
  if (scheme != decoder.end() && drops) {
    return NoField(decoder, "add_prefix_space", "what its \"prepend_scheme\" says");
  }
  return false;
}

using Step = std::function<std::string(absl::string_view)>;

absl::StatusOr<Step> MakeByteLevel(const json&) { return Step(DecodeByteLevel); }
absl::StatusOr<Step> MakeByteFallback(const json&) { return Step(DecodeByteFallback); }
// Of a list with one token there is nothing to join.
absl::StatusOr<Step> MakeFuse(const json&) { return Step(); }

absl::StatusOr<Step> MakeMetaspace(const json& decoder) {
  ENGRAM_ASSIGN_OR_RETURN(const UChar32 replacement, CharacterOf(decoder, "replacement"));
  ENGRAM_ASSIGN_OR_RETURN(const bool drops, MetaspaceDrops(decoder));
  return Step([replacement, drops](absl::string_view token) {
    return DecodeMetaspace(token, replacement, drops);
  });
}

absl::StatusOr<Step> MakeStrip(const json& decoder) {
  ENGRAM_ASSIGN_OR_RETURN(const UChar32 content, CharacterOf(decoder, "content"));
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t start, CountOf(decoder, "start"));
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t stop, CountOf(decoder, "stop"));
  return Step([content, start, stop](absl::string_view token) {
    return DecodeStrip(token, content, start, stop);
  });
}

absl::StatusOr<Step> MakeReplace(const json& decoder) {
  const auto pattern = decoder.find("pattern");
  if (pattern == decoder.end() || !pattern->is_object()) {
    return NoField(decoder, "pattern", "an object with a \"String\"");
  }
  if (pattern->contains("Regex")) {
    return absl::UnimplementedError(absl::StrCat(
        "its decoder ", Shown(decoder), " goes by a regular expression, which is not known here"));
  }
  ENGRAM_ASSIGN_OR_RETURN(const std::string from, StringOf(*pattern, "String"));
  if (from.empty()) return NoField(*pattern, "String", "a string with something in it");
  ENGRAM_ASSIGN_OR_RETURN(const std::string to, StringOf(decoder, "content"));
  return Step([from, to](absl::string_view token) {
    return absl::StrReplaceAll(token, {{from, to}});
  });
}

// The mark at a word's end; a last token, which one alone is, gets no space for it.
absl::StatusOr<Step> MakeBpe(const json& decoder) {
  ENGRAM_ASSIGN_OR_RETURN(const std::string suffix, StringOf(decoder, "suffix"));
  if (suffix.empty()) return NoField(decoder, "suffix", "a string with something in it");
  return Step([suffix](absl::string_view token) {
    return absl::StrReplaceAll(token, {{suffix, ""}});
  });
}

// The first token of a list keeps its prefix.
absl::StatusOr<Step> MakeWordPiece(const json& decoder) {
  const auto cleanup = decoder.find("cleanup");
  if (cleanup == decoder.end() || !cleanup->is_boolean()) {
    return NoField(decoder, "cleanup", "true or false");
  }
  return cleanup->get<bool>() ? Step(TidyWordPieces) : Step();
}

struct KnownDecoder {
  absl::string_view type;
  absl::StatusOr<Step> (*make)(const json& decoder);
};
constexpr KnownDecoder kKnownDecoders[] = {
    {"ByteLevel", MakeByteLevel}, {"ByteFallback", MakeByteFallback},
    {"Fuse", MakeFuse},           {"Metaspace", MakeMetaspace},
    {"Strip", MakeStrip},         {"Replace", MakeReplace},
    {"BPEDecoder", MakeBpe},      {"WordPiece", MakeWordPiece},
};

absl::StatusOr<Step> MakeStep(const json& decoder, const std::string& type) {
  for (const KnownDecoder& known : kKnownDecoders) {
    if (known.type == type) return known.make(decoder);
  }
  return absl::UnimplementedError(absl::StrCat(
      "its decoder is a ", QuoteForMessage(type), ", which is not known here; known are ",
      absl::StrJoin(
          kKnownDecoders, ", ",
          [](std::string* out, const KnownDecoder& known) { absl::StrAppend(out, known.type); }),
      " and a Sequence of them"));
}

// Sequences hold sequences: no deeper than the file may nest.
absl::Status AddSteps(const json& decoder, std::vector<Step>& steps) {
  if (!decoder.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its decoder ", Shown(decoder), " is no object"));
  }
  ENGRAM_ASSIGN_OR_RETURN(const std::string type, StringOf(decoder, "type"));
  if (type == "Sequence") {
    const auto parts = decoder.find("decoders");
    if (parts == decoder.end() || !parts->is_array()) return NoField(decoder, "decoders", "a list");
    for (const json& part : *parts) ENGRAM_RETURN_IF_ERROR(AddSteps(part, steps));
    return absl::OkStatus();
  }
  ENGRAM_ASSIGN_OR_RETURN(Step step, MakeStep(decoder, type));
  if (step == nullptr) return absl::OkStatus();
  if (steps.size() == kMaxDecoders) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has more than ", kMaxDecoders, " decoders one after the other"));
  }
  steps.push_back(std::move(step));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenDecoder> TokenDecoder::Create(const json& decoder) {
  TokenDecoder made;
  if (!decoder.is_null()) ENGRAM_RETURN_IF_ERROR(AddSteps(decoder, made.steps_));
  return made;
}

absl::StatusOr<std::string> TokenDecoder::Text(absl::string_view raw, uint64_t* made_bytes) const {
  std::string text(raw);
  *made_bytes += text.size();
  for (const Step& step : steps_) {
    text = step(text);
    *made_bytes += text.size();
    if (text.size() > kMaxTokenTextBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("its decoders make more than ", kMaxTokenTextBytes, " bytes of one token"));
    }
  }
  return text;
}

}  // namespace engram
