#include "memstore/base/python_numbers.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// The end of the string that begins at `at`, behind its closing mark.
size_t EndOfString(absl::string_view text, size_t at) {
  for (++at; at < text.size() && text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at < text.size() ? at + 1 : text.size();
}

bool IsOfWord(char c) { return absl::ascii_isalnum(c) || c == '-' || c == '+' || c == '.'; }

bool IsOddNumber(absl::string_view word) {
  if (word == "NaN" || word == "Infinity" || word == "-Infinity") return true;
  // Other spellings of these are no JSON and nobody's.
  if (word.find_first_not_of("0123456789+-.eE") != absl::string_view::npos) return false;
  double value;
  return absl::SimpleAtod(word, &value) && std::isinf(value);
}

}  // namespace

std::string QuotePythonNumbers(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    const bool is_word = IsOfWord(text[at]);
    if (text[at] == '"') end = EndOfString(text, at);
    while (is_word && end < text.size() && IsOfWord(text[end])) ++end;
    const absl::string_view part = text.substr(at, end - at);
    if (is_word && IsOddNumber(part)) {
      absl::StrAppend(&out, "\"", part, "\"");
    } else {
      absl::StrAppend(&out, part);
    }
    at = end;
  }
  return out;
}

}  // namespace engram
