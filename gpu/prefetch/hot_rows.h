// The hot cache between a step's row ids and the transport: what it holds comes out of device
// memory, and only the rest travels, and is kept from then on if it is seen often enough.
//
// The travelling rows land back to back, group after group, and are put among the others on the
// device. Belongs to whoever holds the side stream's lock (TransportFetch), as the cache does.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/prefetch/hot_cache.h"
#include "gpu/prefetch/step_slot.h"

namespace engram {

class HotRows {
 public:
  // `layout` outlives it. Errors of HotCache::Create.
  static absl::StatusOr<std::unique_ptr<HotRows>> Make(const StepLayout& layout, uint64_t bytes,
                                                       Device& device);

  // The layer's row ids are in the slot: enqueues the copies of what is held to slot.fetched, and
  // leaves in slot.travel_ids what is to be fetched.
  absl::Status Lookup(StepSlot& slot, size_t layer, Stream& side);
  // What was to be fetched is at slot.landing: enqueues its copies to slot.fetched.
  absl::Status Place(StepSlot& slot, size_t layer, Stream& side);
  // All rows are, in the stream's order, at slot.fetched: keeps those that Lookup missed.
  absl::Status Keep(StepSlot& slot, size_t layer, Stream& side);

  HotCacheCounts counts() const;

 private:
  // Of one layer in StepSlot::missing_places, in rows: from where among those that travelled, to
  // where among all, and how many.
  struct Lists {
    uint32_t* from_at = nullptr;
    uint32_t* to_at = nullptr;
    uint32_t* rows = nullptr;
  };

  HotRows(const StepLayout& layout, std::unique_ptr<HotCache> cache);
  Lists ListsOf(const StepSlot& slot, size_t layer) const;

  const StepLayout& layout_;
  const std::unique_ptr<HotCache> cache_;
};

}  // namespace engram
