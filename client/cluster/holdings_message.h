// What a store says of itself on a Holdings stream, as values. A store may say anything: what does
// not fit, or contradicts itself, is an error that names the store. Stateless, thread-safe.
#pragma once

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "memstore/cluster/store_state.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram {

// Of a message. A store of 256 sets of 64 layers each, all of it held, says half of it.
inline constexpr size_t kMaxHoldingsBytes = 2 << 20;

// `address`: under which the store was reached. Sets in a state that is not known here are left
// out: no lookup may go there. INVALID_ARGUMENT names the store: what SiftStores refuses (ranges
// beyond the table, that overlap, too many sets), a load that is none, a role that is not known, a
// chain of gateways that comes back to one of them.
absl::StatusOr<StoreState> ReadHoldings(const v1::HoldingsResponse& message,
                                        const std::string& address);

}  // namespace engram
