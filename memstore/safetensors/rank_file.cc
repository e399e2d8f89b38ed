#include "memstore/safetensors/rank_file.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

size_t SkipDigits(absl::string_view name, size_t at) {
  while (at < name.size() && absl::ascii_isdigit(name[at])) ++at;
  return at;
}

bool IsSeparator(char c) { return c == '-' || c == '_' || c == '.'; }

// The digits behind `word` and at most one separator, where the word begins the name or follows no
// letter: [begin, end), empty where there are none.
struct Digits {
  size_t begin = 0, end = 0;
};
Digits DigitsBehind(absl::string_view name, absl::string_view word) {
  for (size_t at = name.find(word); at != absl::string_view::npos; at = name.find(word, at + 1)) {
    if (at > 0 && absl::ascii_isalpha(name[at - 1])) continue;
    size_t begin = at + word.size();
    if (begin < name.size() && IsSeparator(name[begin])) ++begin;
    const size_t end = SkipDigits(name, begin);
    if (end > begin) return {begin, end};
  }
  return {};
}

// "3" of "model3-mp8".
Digits DigitsBeforeCount(absl::string_view name) {
  const size_t mark = name.find("-mp");
  if (mark == absl::string_view::npos || SkipDigits(name, mark + 3) == mark + 3) return {};
  size_t begin = mark;
  while (begin > 0 && absl::ascii_isdigit(name[begin - 1])) --begin;
  return {begin, mark};
}

std::string Without(absl::string_view name, const Digits& digits) {
  return absl::StrCat(name.substr(0, digits.begin), "*", name.substr(digits.end));
}

}  // namespace

std::optional<RankFile> ParseRankFile(absl::string_view name) {
  Digits digits = DigitsBehind(name, "rank");
  if (digits.end == 0) digits = DigitsBeforeCount(name);
  if (digits.begin == digits.end) digits = DigitsBehind(name, "tp");
  if (digits.begin == digits.end) digits = DigitsBehind(name, "consolidated.");
  RankFile file;
  if (digits.begin == digits.end ||
      !absl::SimpleAtoi(name.substr(digits.begin, digits.end - digits.begin), &file.rank)) {
    return std::nullopt;
  }
  file.group = Without(name, digits);
  const Digits part = DigitsBehind(file.group, "part");
  if (part.begin != part.end) file.group = Without(file.group, part);
  return file;
}

}  // namespace engram
