#include "gpu/prefetch/hot_rows.h"

#include <algorithm>

#include "gpu/kernels/copy_groups.h"

namespace engram {

absl::StatusOr<std::unique_ptr<HotRows>> HotRows::Make(const StepLayout& layout, uint64_t bytes,
                                                       Device& device) {
  HotCacheOptions options{.bytes = bytes};
  for (const StepLayout::Layer& layer : layout.layers) {
    if (layer.columns == 0) continue;
    options.row_bytes = layer.row_bytes;  // the same in all of them
    for (const uint32_t rows : layer.groups) {
      options.group_rows = std::max(options.group_rows, rows);
    }
    options.max_groups =
        std::max(options.max_groups, static_cast<uint32_t>(layout.max_groups(layer)));
  }
  absl::StatusOr<std::unique_ptr<HotCache>> cache = HotCache::Create(options, device);
  if (!cache.ok()) return cache.status();
  return std::unique_ptr<HotRows>(new HotRows(layout, *std::move(cache)));
}

HotRows::HotRows(const StepLayout& layout, std::unique_ptr<HotCache> cache)
    : layout_(layout), cache_(std::move(cache)) {}

HotRows::Lists HotRows::ListsOf(const StepSlot& slot, size_t layer) const {
  const StepLayout::Layer& shape = layout_.layers[layer];
  uint32_t* const first = slot.missing_places.as<uint32_t>() +
                          uint64_t{StepSlot::kGroupLists} * layout_.max_tokens * shape.first_group;
  const uint64_t groups = layout_.max_groups(shape);
  return {.from_at = first, .to_at = first + groups, .rows = first + 2 * groups};
}

absl::Status HotRows::Lookup(StepSlot& slot, size_t layer, Stream& side) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  const absl::Span<const RowId> ids = LayerIds(layout_, slot, layer);
  std::vector<RowGroup>& missing = slot.missing[layer];
  absl::Status status = cache_->Lookup(shape.layer, shape.groups, ids,
                                       slot.fetched + shape.fetched_offset, side, &missing);
  if (!status.ok()) return status;
  std::vector<RowId>& travel = slot.travel_ids[layer];
  travel.clear();
  const Lists lists = ListsOf(slot, layer);
  for (size_t i = 0; i < missing.size(); ++i) {
    const absl::Span<const RowId> rows = ids.subspan(missing[i].first, missing[i].rows);
    lists.from_at[i] = static_cast<uint32_t>(travel.size());
    lists.to_at[i] = missing[i].first;
    lists.rows[i] = missing[i].rows;
    travel.insert(travel.end(), rows.begin(), rows.end());
  }
  return absl::OkStatus();
}

absl::Status HotRows::Place(StepSlot& slot, size_t layer, Stream& side) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  const Lists lists = ListsOf(slot, layer);
  return EnqueueCopyGroups({.from = slot.landing + shape.fetched_offset,
                            .to = slot.fetched + shape.fetched_offset,
                            .from_at = lists.from_at,
                            .to_at = lists.to_at,
                            .rows = lists.rows,
                            .from_stride = shape.row_bytes,
                            .to_stride = shape.row_bytes,
                            .row_bytes = shape.row_bytes,
                            .groups = static_cast<uint32_t>(slot.missing[layer].size())},
                           side);
}

absl::Status HotRows::Keep(StepSlot& slot, size_t layer, Stream& side) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  return cache_->Keep(shape.layer, LayerIds(layout_, slot, layer), slot.missing[layer],
                      slot.fetched + shape.fetched_offset, side);
}

HotCacheCounts HotRows::counts() const {
  return {.groups = cache_->groups(), .hits = cache_->hits(), .misses = cache_->misses()};
}

}  // namespace engram
