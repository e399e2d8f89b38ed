#include "gpu/prefetch/step_slot.h"

#include <algorithm>

namespace engram {
namespace {

constexpr uint64_t kLayerAlignment = 256;

uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kLayerAlignment - 1) / kLayerAlignment * kLayerAlignment;
}

// How many columns of each order the slice has, orders of which it has none left out.
std::vector<uint32_t> GroupsOf(const ColumnSlice& slice, uint32_t heads) {
  std::vector<uint32_t> groups;
  uint32_t last_order = UINT32_MAX;
  for (uint32_t i = 0; i < slice.columns(); ++i) {
    const uint32_t order = slice.LayerColumn(i) / heads;
    if (order != last_order) groups.push_back(0);
    ++groups.back();
    last_order = order;
  }
  return groups;
}

}  // namespace

StepLayout::StepLayout(const Manifest& manifest, const PrefetcherOptions& options)
    : max_tokens(options.max_tokens) {
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& spec = manifest.layers[i];
    const ColumnSlice slice =
        options.slices.empty() ? ColumnSlice::All(manifest.scheme.Columns()) : options.slices[i];
    layers.push_back(
        {.layer = spec.layer,
         .slice = slice,
         .columns = slice.columns(),
         .first_column = columns,
         .row_bytes = spec.row_bytes,
         .placed_row_bytes = options.place_rows ? options.placed_row_bytes : spec.row_bytes,
         .fetched_offset = fetched_bytes,
         .placed_offset = placed_bytes,
         .groups = GroupsOf(slice, manifest.scheme.heads_per_order),
         .first_group = groups});
    const Layer& layer = layers.back();
    columns += layer.columns;
    groups += layer.groups.size();
    fetched_bytes += RoundUp(max_rows(layer) * layer.row_bytes);
    placed_bytes += RoundUp(max_rows(layer) * layer.placed_row_bytes);
  }
}

absl::Status AllocateSlot(Device& device, const StepLayout& layout,
                          const PrefetcherOptions& options, StepSlot* slot) {
  absl::Status status;
  const auto allocate = [&](MemoryKind kind, uint64_t bytes, DeviceBuffer* buffer) {
    if (!status.ok()) return;
    bytes = std::max(bytes, kLayerAlignment);  // where no layer has columns
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(kind, bytes);
    status = memory.status();
    if (memory.ok()) *buffer = *std::move(memory);
  };
  const bool places = options.place_rows != nullptr;
  const bool one_memory = device.host_writes_device_memory();
  const bool mapped = options.path == FetchPath::kMapped;
  const bool caches = options.hot_cache_bytes > 0;
  const uint64_t rows = layout.max_tokens * layout.columns;

  allocate(MemoryKind::kPinnedHost, rows * sizeof(RowId), &slot->row_ids);
  if (mapped) {
    allocate(MemoryKind::kDevice, rows * sizeof(RowId), &slot->device_ids);
    allocate(MemoryKind::kPinnedHost, layout.layers.size() * sizeof(uint32_t), &slot->bad_ids);
  }
  if (options.distinct) {
    allocate(MemoryKind::kPinnedHost, rows * sizeof(uint32_t), &slot->inverse);
    if (!one_memory) {
      allocate(MemoryKind::kDevice, rows * sizeof(uint32_t), &slot->device_inverse);
    }
  }
  if (caches) {
    allocate(MemoryKind::kPinnedHost,
             layout.max_tokens * layout.groups * StepSlot::kGroupLists * sizeof(uint32_t),
             &slot->missing_places);
  }
  allocate(MemoryKind::kDevice, layout.placed_bytes, &slot->placed_memory);
  const bool stages = !mapped && (places || !one_memory || caches);
  if (stages) allocate(MemoryKind::kPinnedHost, layout.fetched_bytes, &slot->landing_memory);
  const bool separate = places && (mapped || !one_memory || caches);
  if (separate) allocate(MemoryKind::kDevice, layout.fetched_bytes, &slot->fetched_memory);
  if (!status.ok()) return status;

  slot->placed = slot->placed_memory.data();
  slot->landing = stages ? slot->landing_memory.data() : slot->placed;
  slot->fetched = separate ? slot->fetched_memory.data() : places ? slot->landing : slot->placed;
  slot->sequences.reserve(options.max_tokens);
  slot->token_ids.reserve(options.max_tokens);
  slot->dead.reserve(options.max_tokens);
  slot->travel_ids.resize(layout.layers.size());
  slot->missing.resize(layout.layers.size());
  slot->batch_index.resize(layout.layers.size());
  for (size_t i = 0; caches && i < layout.layers.size(); ++i) {
    slot->travel_ids[i].reserve(layout.max_rows(layout.layers[i]));
    slot->missing[i].reserve(layout.max_groups(layout.layers[i]));
  }
  slot->row_counts.resize(layout.layers.size());
  slot->waited.resize(layout.layers.size());
  for (size_t i = 0; i <= layout.layers.size(); ++i) {
    absl::StatusOr<std::unique_ptr<Event>> event = device.MakeEvent();
    if (!event.ok()) return event.status();
    (i == layout.layers.size() ? slot->ids_here : slot->placed_here.emplace_back()) =
        *std::move(event);
  }
  return absl::OkStatus();
}

absl::Status AddressLayer(const Addresser& addresser, const StepLayout& layout, size_t layer,
                          StepSlot* slot) {
  const StepLayout::Layer& shape = layout.layers[layer];
  const LayerRowIdsOutput output = {
      .layer_index = static_cast<uint32_t>(layer),
      .rows = slot->row_ids.as<RowId>() + slot->tokens * shape.first_column,
      .token_stride = shape.columns,
      .slice = shape.slice.is_all() ? nullptr : &shape.slice};
  return addresser.AddressSequences(slot->sequences, slot->token_ids, slot->dead, {&output, 1});
}

}  // namespace engram
