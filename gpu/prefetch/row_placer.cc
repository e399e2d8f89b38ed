#include "gpu/prefetch/row_placer.h"

namespace engram {

absl::Status RowPlacer::BringLanded(StepSlot& slot, size_t layer) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  if (slot.landing != slot.fetched) {
    absl::Status status =
        side_.Copy(slot.fetched + shape.fetched_offset, slot.landing + shape.fetched_offset,
                   uint64_t{slot.row_counts[layer]} * shape.row_bytes);
    if (!status.ok()) return status;
  }
  if (slot.device_inverse.data() != nullptr) {
    const uint64_t first = layout_.max_tokens * shape.first_column;
    absl::Status status =
        side_.Copy(slot.device_inverse.as<uint32_t>() + first, slot.inverse.as<uint32_t>() + first,
                   uint64_t{slot.tokens} * shape.columns * sizeof(uint32_t));
    if (!status.ok()) return status;
  }
  return PlaceFetched(slot, layer);
}

absl::Status RowPlacer::PlaceFetched(StepSlot& slot, size_t layer) {
  if (place_rows_ != nullptr) {
    const StepLayout::Layer& shape = layout_.layers[layer];
    const DeviceBuffer& inverse =
        slot.device_inverse.data() != nullptr ? slot.device_inverse : slot.inverse;
    const uint64_t first = layout_.max_tokens * shape.first_column;
    absl::Status status = place_rows_(
        {.layer_index = layer,
         .tokens = slot.tokens,
         .columns = shape.columns,
         .row_bytes = shape.row_bytes,
         .rows = slot.fetched + shape.fetched_offset,
         .row_count = slot.row_counts[layer],
         .inverse = inverse.data() == nullptr ? nullptr : inverse.as<uint32_t>() + first,
         .placed = slot.placed + shape.placed_offset},
        side_);
    if (!status.ok()) return status;
  }
  return side_.Record(*slot.placed_here[layer]);
}

}  // namespace engram
