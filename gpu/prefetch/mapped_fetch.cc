#include "gpu/prefetch/mapped_fetch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"

namespace engram {

absl::StatusOr<std::unique_ptr<RowFetch>> MappedFetch::Make(Transport& transport, Device& device,
                                                            const Addresser& addresser,
                                                            const StepLayout& layout,
                                                            const PrefetcherOptions& options,
                                                            Stream& side) {
  std::unique_ptr<MappedFetch> fetch(new MappedFetch(transport, device.host_writes_device_memory(),
                                                     addresser, layout, options, side));
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    const GatherTable* const table = transport.MappedTable(i);
    if (table == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the transport ", transport.Describe(),
                       " maps no tables: take shm:SOCKET or embedded:DIR, or fetch over it"));
    }
    absl::StatusOr<std::unique_ptr<RegisteredMemory>> memory =
        device.Register({table->base, table->rows * table->row_bytes});
    if (!memory.ok()) return memory.status();
    fetch->tables_.push_back(
        {.base = (*memory)->on_device(), .rows = table->rows, .row_bytes = table->row_bytes});
    fetch->registered_.push_back(*std::move(memory));
  }
  return std::unique_ptr<RowFetch>(std::move(fetch));
}

bool MappedFetch::Issue(StepSlot& slot) {
  absl::Status status = transport_.MayReadMapped();
  if (status.ok() && slot.device_row_ids != nullptr) status = side_.WaitEvent(*slot.ids_here);
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    status = EnqueueLayer(slot, i);
  }
  if (status.ok()) return true;
  slot.state.EndAll(slot.step, status);
  side_.Synchronize().IgnoreError();  // of what was enqueued before the error
  return false;
}

absl::Status MappedFetch::BringIds(StepSlot& slot, size_t layer, const RowId** ids) {
  const uint64_t rows = uint64_t{slot.tokens} * layout_.columns;
  if (slot.device_row_ids != nullptr) {
    *ids = slot.device_row_ids + layer * rows;
    return absl::OkStatus();
  }
  absl::Status status = AddressLayer(addresser_, layout_, layer, &slot);
  const RowId* const made = LayerIds(layout_, slot, layer).data();
  RowId* const brought = slot.device_ids.as<RowId>() + layer * rows;
  *ids = one_memory_ ? made : brought;
  if (!status.ok() || one_memory_) return status;
  return side_.Copy(brought, made, rows * sizeof(RowId));
}

absl::Status MappedFetch::EnqueueLayer(StepSlot& slot, size_t layer) {
  const RowId* ids = nullptr;
  absl::Status status = BringIds(slot, layer, &ids);
  if (!status.ok()) return status;
  slot.row_counts[layer] = slot.tokens * layout_.columns;
  uint32_t* const bad_ids = slot.bad_ids.as<uint32_t>() + layer;
  *bad_ids = 0;
  status = EnqueueMappedGather({.table = tables_[layer],
                                .ids = ids,
                                .count = slot.row_counts[layer],
                                .rows = slot.fetched + layout_.layers[layer].fetched_offset,
                                .bad_ids = bad_ids},
                               multiprocessors_, side_);
  return status.ok() ? placer_.PlaceFetched(slot, layer) : status;
}

void MappedFetch::Land(StepSlot& slot) {
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    absl::Status status = slot.placed_here[i]->Wait(MonotonicTime::Infinite());
    if (status.ok() && slot.bad_ids.as<uint32_t>()[i] != 0) {
      status = absl::InvalidArgumentError(absl::StrCat(
          "a row id that the device made is not below the table's ", tables_[i].rows, " rows"));
    }
    if (status.ok()) status = transport_.MayUseMapped();
    slot.state.End(slot.step, i, status);
  }
}

}  // namespace engram
