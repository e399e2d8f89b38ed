#include "gpu/prefetch/hot_rows.h"

#include <algorithm>

#include "gpu/kernels/copy_groups.h"

namespace engram {

absl::StatusOr<std::unique_ptr<HotRows>> HotRows::Make(const StepLayout& layout, uint64_t bytes,
                                                       Device& device) {
  absl::StatusOr<std::unique_ptr<HotCache>> cache =
      HotCache::Create({.bytes = bytes,
                        .heads = layout.heads,
                        .row_bytes = layout.layers[0].row_bytes,
                        .max_groups = static_cast<uint32_t>(layout.max_layer_groups())},
                       device);
  if (!cache.ok()) return cache.status();
  return std::unique_ptr<HotRows>(new HotRows(layout, *std::move(cache)));
}

HotRows::HotRows(const StepLayout& layout, std::unique_ptr<HotCache> cache)
    : layout_(layout),
      cache_(std::move(cache)),
      group_bytes_(uint64_t{layout.heads} * layout.layers[0].row_bytes) {}

absl::Status HotRows::Lookup(StepSlot& slot, size_t layer, Stream& side) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  const absl::Span<const RowId> ids = LayerIds(layout_, slot, layer);
  std::vector<uint32_t>& missing = slot.missing[layer];
  absl::Status status = cache_->Lookup(shape.layer, ids, slot.fetched + shape.fetched_offset,
                                       group_bytes_, side, &missing);
  if (!status.ok()) return status;
  std::copy(missing.begin(), missing.end(),
            slot.missing_places.as<uint32_t>() + layer * layout_.max_layer_groups());
  std::vector<RowId>& travel = slot.travel_ids[layer];
  travel.clear();
  for (const uint32_t group : missing) {
    const absl::Span<const RowId> rows =
        ids.subspan(uint64_t{group} * layout_.heads, layout_.heads);
    travel.insert(travel.end(), rows.begin(), rows.end());
  }
  return absl::OkStatus();
}

absl::Status HotRows::Place(StepSlot& slot, size_t layer, Stream& side) {
  const uint64_t offset = layout_.layers[layer].fetched_offset;
  return EnqueueCopyGroups(
      {.from = slot.landing + offset,
       .to = slot.fetched + offset,
       .from_at = nullptr,
       .to_at = slot.missing_places.as<uint32_t>() + layer * layout_.max_layer_groups(),
       .from_stride = group_bytes_,
       .to_stride = group_bytes_,
       .group_bytes = static_cast<uint32_t>(group_bytes_),
       .groups = static_cast<uint32_t>(slot.missing[layer].size())},
      side);
}

absl::Status HotRows::Keep(StepSlot& slot, size_t layer, Stream& side) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  return cache_->Keep(shape.layer, LayerIds(layout_, slot, layer), slot.missing[layer],
                      slot.fetched + shape.fetched_offset, group_bytes_, side);
}

HotCacheCounts HotRows::counts() const {
  return {.groups = cache_->groups(), .hits = cache_->hits(), .misses = cache_->misses()};
}

}  // namespace engram
