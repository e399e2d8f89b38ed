#include "memstore/tokenizer/normal_text.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Of private use: stands for a text that is one space while blanks are stripped.
constexpr char16_t kOneSpace = 0xE000;

bool IsCombiningMark(UChar32 c) { return (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0; }

bool IsBlank(UChar32 c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

// NFKC, then NFD. The one does not make the other's text superfluous: what NFKC composes is of
// compatible characters.
absl::StatusOr<icu::UnicodeString> Decompose(absl::string_view text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* const nfkc = icu::Normalizer2::getNFKCInstance(error);
  const icu::Normalizer2* const nfd = icu::Normalizer2::getNFDInstance(error);
  icu::UnicodeString decomposed;
  if (U_SUCCESS(error)) {
    decomposed = nfkc->normalize(
        icu::UnicodeString::fromUTF8({text.data(), static_cast<int32_t>(text.size())}), error);
  }
  if (U_SUCCESS(error)) decomposed = nfd->normalize(decomposed, error);
  if (U_FAILURE(error)) {
    return absl::InternalError(absl::StrCat("ICU cannot normalise text: ", u_errorName(error)));
  }
  return decomposed;
}

// Lower case is of each code point by itself: nothing that NFD leaves has a lower case of several.
icu::UnicodeString Fold(const icu::UnicodeString& text) {
  icu::UnicodeString folded;
  bool in_blanks = false;
  for (int32_t at = 0; at < text.length(); at = text.moveIndex32(at, 1)) {
    const UChar32 c = text.char32At(at);
    if (IsCombiningMark(c)) continue;
    if (!IsBlank(c)) {
      folded.append(u_tolower(c));
    } else if (!in_blanks) {
      folded.append(u' ');
    }
    in_blanks = IsBlank(c);
  }
  return folded;
}

void StripWhiteSpace(icu::UnicodeString& text) {
  int32_t begin = 0, end = text.length();
  while (begin < end && u_isUWhiteSpace(text.char32At(begin))) begin = text.moveIndex32(begin, 1);
  while (end > begin && u_isUWhiteSpace(text.char32At(end - 1))) end = text.moveIndex32(end, -1);
  text = icu::UnicodeString(text, begin, end - begin);
}

}  // namespace

absl::StatusOr<std::string> NormalText(absl::string_view text) {
  const absl::StatusOr<icu::UnicodeString> decomposed = Decompose(text);
  if (!decomposed.ok()) return decomposed.status();
  icu::UnicodeString normal = Fold(*decomposed);
  if (normal == icu::UnicodeString(u' ')) normal = kOneSpace;
  StripWhiteSpace(normal);
  normal.findAndReplace(icu::UnicodeString(kOneSpace), icu::UnicodeString(u' '));
  std::string utf8;
  normal.toUTF8String(utf8);
  return utf8;
}

}  // namespace engram
