#include "memstore/base/plain_name.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

bool IsPlainName(absl::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes || name[0] == '.') return false;
  for (const char c : name) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

}  // namespace

absl::Status CheckPlainName(absl::string_view name, absl::string_view field) {
  if (IsPlainName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is \"", QuoteForMessage(name), "\": it must be 1..", kMaxNameBytes,
                   " letters, digits, '.', '_' and '-', not beginning with '.'"));
}

}  // namespace engram
