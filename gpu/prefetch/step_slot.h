// One set of a prefetcher's buffers and the step that has it.
//
// Plain memory, laid out once: Prefetch writes the request, then the fetch's threads own the slot
// until StepState::Release, one after another (queues between them order what they write). Rows
// come in at `landing`, lie on the device at `fetched` and are read by the layer at `placed`; where
// nothing has to be moved these are one place.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/hot_cache.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/prefetch/step_state.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"
#include "memstore/table/manifest.h"

namespace engram {

// Sizes and places of a step's ids and rows. What has [tokens][columns] of each layer in turn, the
// ids say, has a layer's at (tokens * first_column), tokens being the step's or max_tokens.
struct StepLayout {
  struct Layer {
    uint32_t layer = 0;         // the model's number
    ColumnSlice slice;          // what is fetched of it
    uint32_t columns = 0;       // of the slice
    uint64_t first_column = 0;  // how many columns the layers before have
    uint32_t row_bytes = 0;     // as fetched
    uint32_t placed_row_bytes = 0;
    uint64_t fetched_offset = 0;  // of a slot's bytes
    uint64_t placed_offset = 0;
    // Rows of each of a token's groups: the slice's columns of one order; none of no rows.
    std::vector<uint32_t> groups;
    uint64_t first_group = 0;  // as first_column
  };

  StepLayout(const Manifest& manifest, const PrefetcherOptions& options);

  uint32_t max_tokens = 0;
  uint64_t columns = 0;  // of all layers
  uint64_t groups = 0;   // of all layers
  std::vector<Layer> layers;
  uint64_t fetched_bytes = 0;
  uint64_t placed_bytes = 0;

  uint64_t max_rows(const Layer& layer) const { return uint64_t{max_tokens} * layer.columns; }
  uint64_t max_groups(const Layer& layer) const { return max_tokens * layer.groups.size(); }
};

struct StepSlot {
  StepSlot(Device& device, std::atomic<uint32_t>* words, absl::Span<const uint32_t> layers,
           Clock& clock)
      : state(device, words, layers, clock) {}

  StepState state;

  // The request.
  uint64_t step = 0;
  MonotonicTime deadline;
  uint32_t tokens = 0;
  std::vector<SequenceTokens> sequences;
  std::vector<int32_t> token_ids;
  std::vector<uint8_t> dead;
  const RowId* device_row_ids = nullptr;
  std::unique_ptr<Event> ids_here;  // with device_row_ids: they are there, or in row_ids

  // Ids: [layers][tokens][slice columns], tokens being the step's.
  DeviceBuffer row_ids;         // pinned
  DeviceBuffer device_ids;      // kMapped alone
  DeviceBuffer inverse;         // pinned, [layers][max_tokens][slice columns]; distinct alone
  DeviceBuffer device_inverse;  // the same, where the host's is not the device's
  // Where not all rows travel: a layer's that do. Distinct: in the order of their first use.
  std::vector<std::vector<RowId>> travel_ids;
  std::vector<uint32_t> row_counts;  // rows that are, or with distinct come to be, at `fetched`
  // With a hot cache: a layer's groups that it does not hold, and how they are put in place once
  // they came, kGroupLists numbers a group in pinned memory (hot_rows.h).
  std::vector<std::vector<RowGroup>> missing;
  DeviceBuffer missing_places;
  static constexpr uint32_t kGroupLists = 3;
  // The layer's index in the transport's batch; kNotAsked: nothing of it travels.
  static constexpr uint32_t kNotAsked = UINT32_MAX;
  std::vector<uint32_t> batch_index;

  // Rows; the three pointers are into the buffers above them.
  DeviceBuffer landing_memory;  // pinned
  DeviceBuffer fetched_memory;
  DeviceBuffer placed_memory;
  std::byte* landing = nullptr;  // kTransport alone
  std::byte* fetched = nullptr;
  std::byte* placed = nullptr;

  // A layer each: why the device threw its rows away; passed when they are placed.
  DeviceBuffer bad_ids;  // pinned words; kMapped alone
  std::vector<std::unique_ptr<Event>> placed_here;

  // The transport's, while there is one: to be cancelled from another thread.
  std::atomic<uint64_t> transport_ticket{0};

  // Finish has been called; the prefetcher's caller alone.
  bool finished = true;
  bool cancelled = false;
  std::vector<uint8_t> waited;  // a layer
};

// RESOURCE_EXHAUSTED: memory.
absl::Status AllocateSlot(Device& device, const StepLayout& layout,
                          const PrefetcherOptions& options, StepSlot* slot);

// Row ids of the slot's token ids for the layer at `layer`: one after another, so that the first
// layer's rows are asked for before the second is addressed. Of a layer of no columns none are
// made; token ids and states are looked at all the same. Errors of Addresser::AddressSequences,
// which name the sequence: INVALID_ARGUMENT, FAILED_PRECONDITION (a state of another set).
absl::Status AddressLayer(const Addresser& addresser, const StepLayout& layout, size_t layer,
                          StepSlot* slot);

inline absl::Span<const RowId> LayerIds(const StepLayout& layout, const StepSlot& slot,
                                        size_t layer) {
  const StepLayout::Layer& shape = layout.layers[layer];
  return {slot.row_ids.as<RowId>() + slot.tokens * shape.first_column,
          size_t{slot.tokens} * shape.columns};
}

}  // namespace engram
