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
#include "gpu/prefetch/prefetcher.h"
#include "gpu/prefetch/step_state.h"
#include "memstore/addressing/addresser.h"
#include "memstore/base/clock.h"
#include "memstore/table/manifest.h"

namespace engram {

struct StepLayout {
  struct Layer {
    uint32_t layer = 0;      // the model's number
    uint32_t row_bytes = 0;  // as fetched
    uint32_t placed_row_bytes = 0;
    uint64_t fetched_offset = 0;  // of a slot's bytes
    uint64_t placed_offset = 0;
  };

  StepLayout(const Manifest& manifest, const PrefetcherOptions& options);

  uint32_t max_tokens = 0;
  uint32_t columns = 0;
  uint32_t heads = 0;  // columns of one order
  std::vector<Layer> layers;
  uint64_t fetched_bytes = 0;
  uint64_t placed_bytes = 0;

  uint64_t max_layer_rows() const { return uint64_t{max_tokens} * columns; }
  uint64_t max_layer_groups() const { return max_layer_rows() / heads; }
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

  // Ids: [layers][tokens][columns], tokens being the step's.
  DeviceBuffer row_ids;         // pinned
  DeviceBuffer device_ids;      // kMapped alone
  DeviceBuffer inverse;         // pinned, [layers][max_tokens][columns]; distinct alone
  DeviceBuffer device_inverse;  // the same, where the host's is not the device's
  // Where not all rows travel: a layer's that do. Distinct: in the order of their first use.
  std::vector<std::vector<RowId>> travel_ids;
  std::vector<uint32_t> row_counts;  // rows that are, or with distinct come to be, at `fetched`
  // With a hot cache: a layer's groups that it does not hold, [layers][max groups] in pinned memory
  // for the device as well.
  std::vector<std::vector<uint32_t>> missing;
  DeviceBuffer missing_places;
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
// layer's rows are asked for before the second is addressed. INVALID_ARGUMENT names the sequence
// and what Addresser::Address says of it.
absl::Status AddressLayer(const Addresser& addresser, const StepLayout& layout, size_t layer,
                          StepSlot* slot);

inline absl::Span<const RowId> LayerIds(const StepLayout& layout, const StepSlot& slot,
                                        size_t layer) {
  const size_t rows = size_t{slot.tokens} * layout.columns;
  return {slot.row_ids.as<RowId>() + layer * rows, rows};
}

}  // namespace engram
