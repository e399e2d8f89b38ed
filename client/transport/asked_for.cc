#include "client/transport/asked_for.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

constexpr size_t kIdDigits = 64;  // of a SHA-256

bool IsId(absl::string_view text) {
  return text.size() == kIdDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

}  // namespace

bool IsAskedFor(const Manifest& manifest, absl::string_view asked) {
  if (asked.empty()) return true;
  // A name that looks like an id would let another set pass for the one of that id.
  return asked == (IsId(asked) ? manifest.id : manifest.name);
}

absl::Status CheckAskedFor(const Manifest& manifest, absl::string_view asked,
                           absl::string_view owner) {
  if (IsAskedFor(manifest, asked)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      owner, " was asked for table set ", QuoteForMessage(asked), " and answered with ",
      manifest.name, " ", manifest.id, ": is it the right engramd?"));
}

}  // namespace engram
