// Which table set a client of a cluster attaches to, from what it asks for and what stores say.
//
// A pure function, thread-safe.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/cluster/store_state.h"

namespace engram {

// The id of the set. `asked`: an id or the first 12 digits of one or more, a name, which leads to
// its complete set of the highest generation (set_names.h), or empty: the only name there is. What
// is staged, and what gateways have, is none. NOT_FOUND: no store serves it; the names that are
// served are listed. FAILED_PRECONDITION: several and none was asked for, an id's beginning that
// fits several, or ResolveName's. UNAVAILABLE: no set of the name is complete.
absl::StatusOr<std::string> ChooseSet(absl::string_view asked, absl::Span<const StoreState> heard);

// Whether `asked` is one whole id, so that stores which were not heard yet can change nothing.
bool IsWholeSetId(absl::string_view asked);

}  // namespace engram
