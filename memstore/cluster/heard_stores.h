// Which of the stores that were heard may be believed and asked for rows.
//
// What a store says is its own word: one that contradicts itself is left out and named, and the
// others are taken as they are, so that a broken store costs its replicas and nothing else. A pure
// function, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/cluster/store_state.h"

namespace engram {

struct RefusedStore {
  std::string address;
  absl::Status why;  // INVALID_ARGUMENT
};

struct HeardStores {
  // Ascending by address, an instance once, an address once. They point to what was heard.
  struct Store {
    const StoreState* state;
    absl::string_view address;
  };
  std::vector<Store> stores;
  std::vector<RefusedStore> refused;
};

// Bounds what a foreign store can make others keep of it: more sets than any machine's memory
// holds, and as many transports as there are and will be.
inline constexpr size_t kMaxHeldSets = 256;
inline constexpr size_t kMaxTransports = 16;

// `heard` is in the order in which it was heard, and outlives the result. Of two stores that were
// heard at one address the later one counts: the address leads there now. Of one instance that was
// heard at two addresses counts what it said last, and the address that sorts first, so that the
// choice does not change with the order. Gateways are passed over. Refused, with the reason: an
// instance id or address that is none; a set id that is not 64 hexadecimal digits, a name that is
// not a plain one, a set that is listed twice; layers out of order or too many; row ranges that
// overlap, touch, are out of order, empty, or beyond the table.
HeardStores SiftStores(absl::Span<const StoreState> heard);

// INVALID_ARGUMENT: that the store at this address is left out, and why.
absl::Status LeftOut(absl::string_view address, const absl::Status& why);

}  // namespace engram
