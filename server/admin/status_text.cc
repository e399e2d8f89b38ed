#include "server/admin/status_text.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "memstore/base/human_units.h"

namespace engram {
namespace {

// Three digits that say something, and no point where there are three before it.
std::string ThreeDigits(double value) {
  if (value >= 99.95) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.3g", value);
}

// "2 days 4 hours", and the larger alone where there is nothing of the smaller.
std::string Two(int64_t seconds, int64_t large_s, absl::string_view large, int64_t small_s,
                absl::string_view small) {
  const int64_t rest = seconds % large_s / small_s;
  const std::string text = Counted(static_cast<uint64_t>(seconds / large_s), large);
  return rest == 0 ? text : absl::StrCat(text, " ", Counted(static_cast<uint64_t>(rest), small));
}

}  // namespace

std::string Escape(absl::string_view text) {
  return absl::StrReplaceAll(
      text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string EscapeSentence(absl::string_view text) {
  // Others choose some of the words: one that is longer than any flag may break as it has to.
  constexpr size_t kLongestFlag = 40;
  std::string escaped;
  while (!text.empty()) {
    const size_t begin = std::min(text.find("--"), text.size());
    size_t end = begin;
    while (end < text.size() && (absl::ascii_islower(text[end]) || text[end] == '-')) ++end;
    absl::StrAppend(&escaped, Escape(text.substr(0, begin)));
    const absl::string_view flag = text.substr(begin, end - begin);
    absl::StrAppend(&escaped, flag.size() > 2 && flag.size() <= kLongestFlag
                                  ? absl::StrCat("<span class=\"flag\">", flag, "</span>")
                                  : std::string(flag));
    text.remove_prefix(end);
  }
  return escaped;
}

std::string CountText(double value) {
  constexpr const char* kPrefixes[] = {"", " k", " M", " G", " T", " P"};
  size_t prefix = 0;
  // 999.7 k would be written as 1000 k.
  for (; value >= 999.5 && prefix + 1 < std::size(kPrefixes); ++prefix) value /= 1000;
  return absl::StrCat(ThreeDigits(value), kPrefixes[prefix]);
}

std::string TimeText(double seconds) {
  if (seconds <= 0) return "–";
  if (seconds < 0.9995e-3) return absl::StrCat(ThreeDigits(seconds * 1e6), " µs");
  if (seconds < 0.9995) return absl::StrCat(ThreeDigits(seconds * 1e3), " ms");
  return absl::StrCat(ThreeDigits(seconds), " s");
}

std::string SpanText(absl::Duration d) {
  const int64_t seconds = std::max<int64_t>(absl::ToInt64Seconds(d), 0);
  if (seconds < 60) return Counted(static_cast<uint64_t>(seconds), "second");
  if (seconds < 600) return Two(seconds, 60, "minute", 1, "second");
  if (seconds < 3600) return Counted(static_cast<uint64_t>(seconds / 60), "minute");
  if (seconds < 86400) return Two(seconds, 3600, "hour", 60, "minute");
  return Two(seconds, 86400, "day", 3600, "hour");
}

std::string PercentText(double share) {
  const double percent = share * 100;
  if (percent <= 0) return "0 %";
  if (percent < 0.1) return "under 0.1 %";
  // What is not all is not written as all.
  if (percent < 10 || (percent > 99 && percent < 100)) {
    return absl::StrFormat("%.1f %%", std::min(percent, percent < 100 ? 99.9 : percent));
  }
  return absl::StrFormat("%.0f %%", percent);
}

}  // namespace engram
