#include "memstore/program/nearest_name.h"

#include <algorithm>

#include "absl/strings/match.h"

namespace engram {
namespace {

// What is longer is nobody's slip of a name, and would cost its square.
constexpr size_t kMaxWord = 64;
constexpr size_t kLeastBeginning = 3;

}  // namespace

size_t EditDistance(absl::string_view one, absl::string_view other) {
  // Rows of the table: before[j] letters of `other` from i - 1 of `one`, and so on.
  std::vector<size_t> before_last, before(other.size() + 1), now(other.size() + 1);
  for (size_t j = 0; j <= other.size(); ++j) before[j] = j;
  for (size_t i = 1; i <= one.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= other.size(); ++j) {
      const size_t replaced = before[j - 1] + (one[i - 1] == other[j - 1] ? 0 : 1);
      now[j] = std::min({before[j] + 1, now[j - 1] + 1, replaced});
      if (i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1]) {
        now[j] = std::min(now[j], before_last[j - 2] + 1);
      }
    }
    before_last = before;
    before = now;
  }
  return before.back();
}

std::string NearestName(absl::string_view word, const std::vector<std::string>& names) {
  if (word.empty() || word.size() > kMaxWord) return "";
  std::string nearest;
  size_t least = 0;
  for (const std::string& name : names) {
    const bool begins = word.size() >= kLeastBeginning && absl::StartsWith(name, word);
    const size_t distance = begins ? 1 : EditDistance(word, name);
    const size_t most = std::max<size_t>(1, std::max(word.size(), name.size()) / 3);
    if (distance > most || (!nearest.empty() && distance >= least)) continue;
    nearest = name;
    least = distance;
  }
  return nearest;
}

}  // namespace engram
