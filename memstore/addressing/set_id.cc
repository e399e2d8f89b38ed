#include "memstore/addressing/set_id.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr size_t kIdDigits = 64;
constexpr size_t kShortDigits = 16;

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::string Text(ShortSetId id) {
  return id.is_none() ? "no table set" : absl::StrCat("table set ", id.ToString(), "...");
}

}  // namespace

ShortSetId ShortSetId::Of(absl::string_view set_id) {
  ShortSetId id;
  if (set_id.size() != kIdDigits ||
      std::any_of(set_id.begin(), set_id.end(), [](char c) { return DigitOf(c) < 0; })) {
    return id;
  }
  for (size_t i = 0; i < kShortDigits; ++i) {
    id.bits_ = id.bits_ << 4 | static_cast<uint64_t>(DigitOf(set_id[i]));
  }
  return id;
}

std::string ShortSetId::ToString() const {
  if (is_none()) return "none";
  return absl::StrCat(absl::Hex(bits_, absl::kZeroPad16));
}

bool LooksLikeAnId(absl::string_view text) {
  return text.size() >= kLeastIdDigits && text.size() <= kIdDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return DigitOf(c) >= 0; });
}

bool LooksLikeTooFewDigits(absl::string_view text) {
  return !text.empty() && text.size() < kLeastIdDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return DigitOf(c) >= 0; });
}

bool IsIdOrItsBeginning(absl::string_view text, absl::string_view set_id) {
  return LooksLikeAnId(text) && absl::StartsWith(set_id, text);
}

absl::Status CheckSameSet(absl::string_view what, ShortSetId made, ShortSetId used,
                          absl::string_view fix) {
  if (made == used) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(what, " is of ", Text(made), " and was used with ", Text(used), ": ", fix));
}

}  // namespace engram
