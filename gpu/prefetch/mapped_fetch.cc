#include "gpu/prefetch/mapped_fetch.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/clock.h"
#include "memstore/base/status_macros.h"

namespace engram {

absl::StatusOr<std::unique_ptr<RowFetch>> MappedFetch::Make(Transport& transport, Device& device,
                                                            const Addresser& addresser,
                                                            const StepLayout& layout,
                                                            const PrefetcherOptions& options,
                                                            Stream& side) {
  std::unique_ptr<MappedFetch> fetch(new MappedFetch(transport, device.host_writes_device_memory(),
                                                     addresser, layout, options, side));
  fetch->tables_.resize(layout.layers.size());
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    if (layout.layers[i].columns == 0) continue;
    const GatherTable* const table = transport.MappedTable(i);
    if (table == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("the transport ", transport.Describe(),
                       " maps no tables: take shm:SOCKET or embedded:DIR, or fetch over it"));
    }
    absl::StatusOr<std::unique_ptr<RegisteredMemory>> memory =
        device.Register({table->base, table->rows * table->row_bytes});
    if (!memory.ok()) return memory.status();
    fetch->tables_[i] = {.base = (*memory)->on_device(),
                         .rows = table->rows,
                         .row_bytes = table->row_bytes,
                         .first_row = table->first_row};
    fetch->registered_.push_back(*std::move(memory));
  }
  ENGRAM_RETURN_IF_ERROR(fetch->MakeColumns(device));
  return std::unique_ptr<RowFetch>(std::move(fetch));
}

absl::Status MappedFetch::MakeColumns(Device& device) {
  std::vector<TableRowRange> ranges;
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    const LayerAddressing& layer = addresser_.scheme().layers[i];
    const ColumnSlice& slice = layout_.layers[i].slice;
    for (uint32_t c = 0; c < slice.columns(); ++c) {
      const uint32_t column = slice.LayerColumn(c);
      ranges.push_back({.first = layer.offsets[column], .rows = layer.moduli[column]});
    }
  }
  if (ranges.empty()) return absl::OkStatus();
  const size_t bytes = ranges.size() * sizeof(TableRowRange);
  ENGRAM_ASSIGN_OR_RETURN(columns_, device.Allocate(MemoryKind::kDevice, bytes));
  ENGRAM_RETURN_IF_ERROR(side_.Copy(columns_.data(), ranges.data(), bytes));
  return side_.Synchronize();
}

bool MappedFetch::Issue(StepSlot& slot) {
  absl::Status status = transport_.MayReadMapped();
  if (status.ok() && slot.device_row_ids != nullptr) status = side_.WaitEvent(*slot.ids_here);
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    if (layout_.layers[i].columns > 0) status = EnqueueLayer(slot, i);
  }
  if (status.ok()) return true;
  slot.state.EndAll(slot.step, status);
  side_.Synchronize().IgnoreError();  // of what was enqueued before the error
  return false;
}

absl::Status MappedFetch::BringIds(StepSlot& slot, size_t layer, const RowId** ids) {
  const uint64_t first = slot.tokens * layout_.layers[layer].first_column;
  if (slot.device_row_ids != nullptr) {
    *ids = slot.device_row_ids + first;
    return absl::OkStatus();
  }
  absl::Status status = AddressLayer(addresser_, layout_, layer, &slot);
  const absl::Span<const RowId> made = LayerIds(layout_, slot, layer);
  RowId* const brought = slot.device_ids.as<RowId>() + first;
  *ids = one_memory_ ? made.data() : brought;
  if (!status.ok() || one_memory_) return status;
  return side_.Copy(brought, made.data(), made.size() * sizeof(RowId));
}

absl::Status MappedFetch::EnqueueLayer(StepSlot& slot, size_t layer) {
  const RowId* ids = nullptr;
  absl::Status status = BringIds(slot, layer, &ids);
  if (!status.ok()) return status;
  const StepLayout::Layer& shape = layout_.layers[layer];
  slot.row_counts[layer] = slot.tokens * shape.columns;
  uint32_t* const bad_ids = slot.bad_ids.as<uint32_t>() + layer;
  *bad_ids = 0;
  MappedGather gather{.table = tables_[layer],
                      .ids = ids,
                      .count = slot.row_counts[layer],
                      .rows = slot.fetched + shape.fetched_offset,
                      .bad_ids = bad_ids};
  if (slot.device_row_ids != nullptr) {
    // No thread of the host's sees these ids.
    gather.columns = columns_.as<TableRowRange>() + shape.first_column;
    gather.column_count = shape.columns;
  }
  status = EnqueueMappedGather(gather, multiprocessors_, side_);
  return status.ok() ? placer_.PlaceFetched(slot, layer) : status;
}

absl::Status MappedFetch::BadIds(const StepSlot& slot, size_t layer) const {
  const GatherTable& table = tables_[layer];
  const bool made_by_device = slot.device_row_ids != nullptr;
  const absl::string_view what =
      made_by_device ? "a row id that the device made is not one of its column's rows, or"
                     : "a row id is";
  return absl::InvalidArgumentError(
      absl::StrCat(what, " not among the table's rows that are mapped, ", table.first_row, "..",
                   table.first_row + table.rows - 1));
}

void MappedFetch::Land(StepSlot& slot) {
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    if (layout_.layers[i].columns == 0) continue;
    absl::Status status = slot.placed_here[i]->Wait(MonotonicTime::Infinite());
    if (status.ok() && slot.bad_ids.as<uint32_t>()[i] != 0) status = BadIds(slot, i);
    if (status.ok()) status = transport_.MayUseMapped();
    slot.state.End(slot.step, i, status);
  }
}

}  // namespace engram
