#include "gpu/transport_fetch.h"

#include <algorithm>

namespace engram {

bool TransportFetch::Issue(StepSlot& slot) {
  absl::Status status = Plan(slot);
  if (status.ok() && transport_.capabilities().lands_asynchronously) {
    const absl::StatusOr<Ticket> ticket =
        transport_.Submit({.layers = requests_, .deadline = slot.deadline});
    if (ticket.ok()) {
      slot.transport_ticket.store(ticket->number);
      if (!slot.state.AnyInFlight(slot.step)) transport_.Cancel(*ticket);
      return true;
    }
    status = ticket.status();
  }
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    if (!slot.state.InFlight(slot.step, i)) continue;
    status = GatherLayer(slot, i);
    if (status.ok()) slot.state.End(slot.step, i, status);
  }
  if (!status.ok()) slot.state.EndAll(slot.step, status);
  // Ids that are late still come.
  if (slot.device_row_ids != nullptr) slot.ids_here->Wait(absl::InfiniteFuture()).IgnoreError();
  return false;
}

absl::Status TransportFetch::Plan(StepSlot& slot) {
  absl::Status status = slot.device_row_ids != nullptr ? slot.ids_here->Wait(slot.deadline)
                                                       : AddressStep(addresser_, layout_, &slot);
  if (!status.ok()) return status;
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    if (distinct_) MakeDistinct(slot, i);
    const absl::Span<const RowId> ids =
        distinct_ ? absl::MakeConstSpan(slot.distinct_ids[i]) : LayerIds(layout_, slot, i);
    slot.row_counts[i] = static_cast<uint32_t>(ids.size());
    requests_[i] = {.layer = layout_.layers[i].layer,
                    .row_ids = ids,
                    .landing = {.data = slot.landing + layout_.layers[i].fetched_offset}};
  }
  return absl::OkStatus();
}

void TransportFetch::MakeDistinct(StepSlot& slot, size_t layer) {
  planner_.DistinctInverse(LayerIds(layout_, slot, layer), &slot.distinct_ids[layer], &inverse_);
  std::copy(inverse_.begin(), inverse_.end(),
            slot.inverse.as<uint32_t>() + layer * layout_.max_layer_rows());
}

absl::Status TransportFetch::GatherLayer(StepSlot& slot, size_t layer) {
  const absl::StatusOr<Ticket> ticket =
      transport_.Submit({.layers = {&requests_[layer], 1}, .deadline = slot.deadline});
  if (!ticket.ok()) return ticket.status();
  absl::Status status = transport_.Wait(*ticket);
  transport_.Reap(*ticket);
  return status.ok() ? BringToPlace(slot, layer) : status;
}

void TransportFetch::Land(StepSlot& slot) {
  const Ticket ticket{slot.transport_ticket.load()};
  absl::Status status;
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    status = transport_.WaitLayer(ticket, i);
    if (status.ok() && slot.state.InFlight(slot.step, i)) {
      status = BringToPlace(slot, i);
      if (status.ok()) slot.state.End(slot.step, i, status);
    }
  }
  if (!status.ok()) slot.state.EndAll(slot.step, status);
  slot.transport_ticket.store(0);
  transport_.Reap(ticket);
}

absl::Status TransportFetch::BringToPlace(StepSlot& slot, size_t layer) {
  if (!placer_.Moves(slot)) return absl::OkStatus();
  absl::Status status = placer_.BringLanded(slot, layer);
  if (status.ok()) return slot.placed_here[layer]->Wait(absl::InfiniteFuture());
  // What was enqueued before the error still reads and writes the slot's buffers.
  side_.Synchronize().IgnoreError();
  return status;
}

void TransportFetch::Cancel(StepSlot& slot) {
  const uint64_t ticket = slot.transport_ticket.load();
  if (ticket != 0) transport_.Cancel(Ticket{ticket});
}

}  // namespace engram
