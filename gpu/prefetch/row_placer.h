// Brings a layer's rows from where they landed to where the layer reads them: to the device, and
// through the caller's PlaceRows. Only enqueues, on the side stream; used by one thread at a time.
#pragma once

#include "absl/status/status.h"
#include "gpu/prefetch/step_slot.h"

namespace engram {

class RowPlacer {
 public:
  // All outlive it.
  RowPlacer(const StepLayout& layout, const PlaceRows& place_rows, Stream& side)
      : layout_(layout), place_rows_(place_rows), side_(side) {}

  // Whether there is anything to do: rows that land where they are read need nothing.
  bool Moves(const StepSlot& slot) const {
    return place_rows_ != nullptr || slot.landing != slot.placed;
  }
  // Rows are at slot.landing: copies them (and the inverse) to the device, places them, records
  // slot.placed_here[layer].
  absl::Status BringLanded(StepSlot& slot, size_t layer);
  // Rows are, in the side stream's order, at slot.fetched: places them, records the same event.
  absl::Status PlaceFetched(StepSlot& slot, size_t layer);

 private:
  const StepLayout& layout_;
  const PlaceRows& place_rows_;
  Stream& side_;
};

}  // namespace engram
