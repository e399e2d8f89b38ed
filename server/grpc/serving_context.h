// What all loops share: the table sets, who may call, the memory of replies, limits, counts.
#pragma once

#include <spdlog/logger.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/store/table_set_registry.h"
#include "server/base/limits.h"
#include "server/cluster/store_status.h"
#include "server/lookup/id_memory.h"
#include "server/lookup/places.h"
#include "server/lookup/reply_slabs.h"
#include "server/metrics/attach_refusals.h"
#include "server/metrics/metrics.h"
#include "server/security/access.h"

namespace engram {

// Filled before the loops are made, and outlives them. What it points to is thread-safe.
struct ServingContext {
  const Clock* clock = nullptr;
  const TableSetRegistry* registry = nullptr;
  AccessControl* access = nullptr;
  Metrics* metrics = nullptr;
  AttachRefusals* attach_refusals = nullptr;  // never null where Attach is served
  const StoreStatus* store_status = nullptr;  // nor this where Holdings is
  std::shared_ptr<spdlog::logger> log;
  GatherTeam* team = nullptr;
  uint64_t max_batch_rows = 0;
  std::shared_ptr<ReplySlabs> slabs;
  std::chrono::microseconds spin{0};  // looking for events before sleeping
  IdMemoryPool ids{kSharedIdBytes};
  // Calls under way, by kind; a health check finds a place whatever others do.
  Places unary_calls{kMaxUnaryCalls, absl::ZeroDuration()};
  Places streams{kMaxStreams, absl::FromChrono(kMinIdle)};
  Places side_calls{kMaxSideCalls, absl::FromChrono(kMinIdle)};
  Places holdings_calls{kMaxHoldingsCalls, absl::FromChrono(kMinIdle)};
  Places unary_method_calls{kMaxUnaryMethodCalls, absl::ZeroDuration()};
  Places health_calls{kMaxHealthCalls, absl::ZeroDuration()};
  // Called by a loop that drains when its last call that holds the drain has ended.
  std::function<void()> on_drained = [] {};
};

// As histograms take it.
inline std::chrono::nanoseconds Elapsed(MonotonicTime from, MonotonicTime to) {
  return std::chrono::nanoseconds(to.nanoseconds() - from.nanoseconds());
}

}  // namespace engram
