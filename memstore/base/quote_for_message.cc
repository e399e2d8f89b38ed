#include "memstore/base/quote_for_message.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

// Quotation marks stay as they are, which CHexEscape does not leave them.
std::string Escaped(absl::string_view value) {
  std::string out;
  for (const char& c : value) {
    const bool plain = c >= ' ' && c <= '~' && c != '\\';
    absl::StrAppend(&out, plain ? std::string(1, c) : absl::CHexEscape({&c, 1}));
  }
  return out;
}

std::string Cut(absl::string_view value, size_t most) {
  if (value.size() <= most) return Escaped(value);
  return absl::StrCat(Escaped(value.substr(0, most)), "... (", value.size(), " bytes)");
}

}  // namespace

std::string QuoteForMessage(absl::string_view value) { return Cut(value, kMaxQuotedBytes); }

std::string QuotePathForMessage(absl::string_view path) { return Cut(path, kMaxQuotedPathBytes); }

}  // namespace engram
