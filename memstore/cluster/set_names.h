// Which table set a name means in a cluster: the complete one of the highest generation.
//
// A pure function over what stores say, thread-safe. A set is complete where every row of each of
// its layers is held by a store that answers for it (serving, superseded or draining); what is
// staged does not count. While a publication goes from store to store the name means the set
// before, until the new one is complete.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/cluster/store_state.h"

namespace engram {

struct NamedSet {
  std::string set_id;
  uint64_t generation = 0;
  friend bool operator==(const NamedSet&, const NamedSet&) = default;
};

// NOT_FOUND: no store serves a set of the name. UNAVAILABLE: none is complete; what the highest
// generation lacks is named. FAILED_PRECONDITION: two set ids stand at one generation of the name;
// both are named, with the stores that say so.
absl::StatusOr<NamedSet> ResolveName(absl::string_view name, absl::Span<const StoreState> heard);

}  // namespace engram
