#include "client/transport/asked_for.h"

#include "absl/strings/str_cat.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
bool IsAskedFor(const Manifest& manifest, absl::string_view asked) {
  if (asked.empty()) return true;
  // A name that looks like a whole id would let another set pass for the one of that id.
  const bool whole = LooksLikeAnId(asked) && asked.size() == manifest.id.size();
  if (!whole && asked == manifest.name) return true;
  return IsIdOrItsBeginning(asked, manifest.id);
}

absl::Status CheckAskedFor(const Manifest& manifest, absl::string_view asked,
                           absl::string_view owner) {
  if (IsAskedFor(manifest, asked)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      owner, " was asked for table set ", QuoteForMessage(asked), " and answered with ",
      manifest.name, " ", manifest.id, ": is it the right engramd?"));
}

}  // namespace engram
