#include "client/cluster/choose_set.h"

#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/cluster/heard_stores.h"
#include "memstore/cluster/set_names.h"

namespace engram {
namespace {

constexpr size_t kSetIdDigits = 64;

}  // namespace

absl::StatusOr<std::string> ChooseSet(absl::string_view asked, absl::Span<const StoreState> heard) {
  std::set<std::string> names, ids;
  const HeardStores sifted = SiftStores(heard);
  for (const HeardStores::Store& store : sifted.stores) {
    for (const HeldSet& set : store.state->sets) {
      if (set.state == HoldingState::kStaged) continue;
      if (set.state == HoldingState::kServing || set.state == HoldingState::kDraining) {
        names.insert(set.name);
      }
      if (!asked.empty() && IsIdOrItsBeginning(asked, set.set_id)) ids.insert(set.set_id);
    }
  }
  const auto served = [&] {
    return names.empty() ? std::string("they serve none")
                         : absl::StrCat("they serve ", absl::StrJoin(names, ", "));
  };
  if (asked.empty() && names.size() > 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the stores serve several: name one of the table sets ", absl::StrJoin(names, ", ")));
  }
  if (ids.size() > 1) {
    return absl::FailedPreconditionError(absl::StrCat(
        QuoteForMessage(asked), " is the beginning of several ids: ", absl::StrJoin(ids, ", ")));
  }
  const std::string name(asked.empty() && !names.empty() ? *names.begin() : asked);
  // A name that looks like a whole id does not stand in for that id.
  const bool is_whole_id = IsWholeSetId(asked);
  if (!is_whole_id && names.contains(name)) {
    ENGRAM_ASSIGN_OR_RETURN(NamedSet set, ResolveName(name, heard));
    return std::move(set.set_id);
  }
  if (!ids.empty()) return *ids.begin();
  return absl::NotFoundError(
      absl::StrCat(asked.empty() ? std::string("no table set")
                                 : absl::StrCat("no table set ", QuoteForMessage(asked)),
                   " at ", sifted.stores.size(), " stores that were heard: ", served()));
}

bool IsWholeSetId(absl::string_view asked) {
  return LooksLikeAnId(asked) && asked.size() == kSetIdDigits;
}

}  // namespace engram
