#include "gpu/mapped_fetch.h"

#include <utility>

#include "absl/strings/str_cat.h"

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
  const RowId* ids = nullptr;
  absl::Status status = transport_.MayReadMapped();
  if (status.ok()) status = BringIds(slot, &ids);
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    status = EnqueueLayer(slot, i, ids + i * uint64_t{slot.tokens} * layout_.columns);
  }
  if (status.ok()) return true;
  slot.state.EndAll(slot.step, status);
  side_.Synchronize().IgnoreError();  // of what was enqueued before the error
  return false;
}

absl::Status MappedFetch::BringIds(StepSlot& slot, const RowId** ids) {
  if (slot.device_row_ids != nullptr) {
    *ids = slot.device_row_ids;
    return side_.WaitEvent(*slot.ids_here);
  }
  absl::Status status = AddressStep(addresser_, layout_, &slot);
  *ids = one_memory_ ? slot.row_ids.as<RowId>() : slot.device_ids.as<RowId>();
  if (!status.ok() || one_memory_) return status;
  const uint64_t rows = layout_.layers.size() * uint64_t{slot.tokens} * layout_.columns;
  return side_.Copy(slot.device_ids.data(), slot.row_ids.data(), rows * sizeof(RowId));
}

absl::Status MappedFetch::EnqueueLayer(StepSlot& slot, size_t layer, const RowId* ids) {
  slot.row_counts[layer] = slot.tokens * layout_.columns;
  uint32_t* const bad_ids = slot.bad_ids.as<uint32_t>() + layer;
  *bad_ids = 0;
  absl::Status status =
      EnqueueMappedGather({.table = tables_[layer],
                           .ids = ids,
                           .count = slot.row_counts[layer],
                           .rows = slot.fetched + layout_.layers[layer].fetched_offset,
                           .bad_ids = bad_ids},
                          multiprocessors_, side_);
  return status.ok() ? placer_.PlaceFetched(slot, layer) : status;
}

void MappedFetch::Land(StepSlot& slot) {
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    absl::Status status = slot.placed_here[i]->Wait(absl::InfiniteFuture());
    if (status.ok() && slot.bad_ids.as<uint32_t>()[i] != 0) {
      status = absl::InvalidArgumentError(absl::StrCat(
          "a row id that the device made is not below the table's ", tables_[i].rows, " rows"));
    }
    if (status.ok()) status = transport_.MayUseMapped();
    slot.state.End(slot.step, i, status);
  }
}

}  // namespace engram
