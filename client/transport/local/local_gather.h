// Gathering a batch in the caller's thread, from tables that lie in its own address space.
//
// Stateless and thread-safe; allocates nothing but an error's message.
#pragma once

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/store/table_set.h"

namespace engram {

// A batch runs in the caller's thread, so this bounds a call, not memory: a minute of gathering.
inline constexpr uint64_t kMaxLocalBatchRows = uint64_t{1} << 30;

// `batch` has been checked against `layers`. DEADLINE_EXCEEDED when the deadline passes before the
// last row is in place; looked at every fraction of a millisecond.
absl::Status GatherLocally(const BatchRequest& batch, absl::Span<const LoadedLayer> layers,
                           const Clock& clock);

}  // namespace engram
