#include "gpu/transport_fetch.h"

#include <algorithm>

namespace engram {

bool TransportFetch::Issue(StepSlot& slot) {
  absl::Status status;
  if (slot.device_row_ids != nullptr) status = slot.ids_here->Wait(slot.deadline);
  if (status.ok() && transport_.capabilities().lands_asynchronously) {
    status = SubmitStep(slot);
    if (status.ok()) return true;
  }
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    if (!slot.state.InFlight(slot.step, i)) continue;
    status = PlanLayer(slot, i);
    if (status.ok()) status = GatherLayer(slot, i);
    if (status.ok()) slot.state.End(slot.step, i, status);
  }
  if (!status.ok()) slot.state.EndAll(slot.step, status);
  // Ids that are late still come.
  if (slot.device_row_ids != nullptr) slot.ids_here->Wait(absl::InfiniteFuture()).IgnoreError();
  return false;
}

absl::Status TransportFetch::SubmitStep(StepSlot& slot) {
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    absl::Status status = PlanLayer(slot, i);
    if (!status.ok()) return status;
  }
  const absl::StatusOr<Ticket> ticket =
      transport_.Submit({.layers = requests_, .deadline = slot.deadline});
  if (!ticket.ok()) return ticket.status();
  slot.transport_ticket.store(ticket->number);
  // Cancelled meanwhile, and there was no ticket to cancel.
  if (!slot.state.AnyInFlight(slot.step)) transport_.Cancel(*ticket);
  return absl::OkStatus();
}

absl::Status TransportFetch::PlanLayer(StepSlot& slot, size_t layer) {
  if (slot.device_row_ids == nullptr) {
    absl::Status status = AddressLayer(addresser_, layout_, layer, &slot);
    if (!status.ok()) return status;
  }
  if (distinct_) MakeDistinct(slot, layer);
  const absl::Span<const RowId> ids =
      distinct_ ? absl::MakeConstSpan(slot.distinct_ids[layer]) : LayerIds(layout_, slot, layer);
  slot.row_counts[layer] = static_cast<uint32_t>(ids.size());
  requests_[layer] = {.layer = layout_.layers[layer].layer,
                      .row_ids = ids,
                      .landing = {.data = slot.landing + layout_.layers[layer].fetched_offset}};
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
