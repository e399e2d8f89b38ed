#include "gpu/prefetch/step_slot.h"

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr uint64_t kLayerAlignment = 256;

uint64_t RoundUp(uint64_t bytes) {
  return (bytes + kLayerAlignment - 1) / kLayerAlignment * kLayerAlignment;
}

}  // namespace

StepLayout::StepLayout(const Manifest& manifest, const PrefetcherOptions& options)
    : max_tokens(options.max_tokens),
      columns(manifest.scheme.Columns()),
      heads(manifest.scheme.heads_per_order) {
  for (const LayerTableSpec& spec : manifest.layers) {
    const uint32_t placed = options.place_rows ? options.placed_row_bytes : spec.row_bytes;
    layers.push_back({.layer = spec.layer,
                      .row_bytes = spec.row_bytes,
                      .placed_row_bytes = placed,
                      .fetched_offset = fetched_bytes,
                      .placed_offset = placed_bytes});
    fetched_bytes += RoundUp(max_layer_rows() * spec.row_bytes);
    placed_bytes += RoundUp(max_layer_rows() * placed);
  }
}

absl::Status AllocateSlot(Device& device, const StepLayout& layout,
                          const PrefetcherOptions& options, StepSlot* slot) {
  absl::Status status;
  const auto allocate = [&](MemoryKind kind, uint64_t bytes, DeviceBuffer* buffer) {
    if (!status.ok()) return;
    absl::StatusOr<DeviceBuffer> memory = device.Allocate(kind, bytes);
    status = memory.status();
    if (memory.ok()) *buffer = *std::move(memory);
  };
  const bool places = options.place_rows != nullptr;
  const bool one_memory = device.host_writes_device_memory();
  const bool mapped = options.path == FetchPath::kMapped;
  const bool caches = options.hot_cache_bytes > 0;
  const uint64_t rows = layout.layers.size() * layout.max_layer_rows();

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
    allocate(MemoryKind::kPinnedHost, rows / layout.heads * sizeof(uint32_t),
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
    slot->travel_ids[i].reserve(layout.max_layer_rows());
    slot->missing[i].reserve(layout.max_layer_groups());
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
  const LayerRowIdsOutput output = {
      .layer_index = static_cast<uint32_t>(layer),
      .rows = slot->row_ids.as<RowId>() + layer * slot->tokens * layout.columns,
      .token_stride = layout.columns};
  return addresser.AddressSequences(slot->sequences, slot->token_ids, slot->dead, {&output, 1});
}

}  // namespace engram
