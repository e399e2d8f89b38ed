#include "gpu/prefetch/transport_fetch.h"

#include <algorithm>

#include "memstore/addressing/column_check.h"
#include "memstore/base/clock.h"
#include "memstore/base/status_macros.h"

namespace engram {

TransportFetch::~TransportFetch() {
  if (hot_ != nullptr) Settle();  // the cache's memory goes with it
}

absl::Status TransportFetch::AddHotCache(uint64_t bytes, Device& device) {
  absl::StatusOr<std::unique_ptr<HotRows>> made = HotRows::Make(layout_, bytes, device);
  if (!made.ok()) return made.status();
  hot_ = *std::move(made);
  return absl::OkStatus();
}

HotCacheCounts TransportFetch::hot_cache() const {
  if (hot_ == nullptr) return {};
  MutexLock lock(side_mutex_);
  return hot_->counts();
}

bool TransportFetch::Issue(StepSlot& slot) {
  absl::Status status;
  if (slot.device_row_ids != nullptr) status = slot.ids_here->Wait(slot.deadline);
  if (status.ok() && transport_.capabilities().lands_asynchronously) {
    status = SubmitStep(slot);
    if (status.ok()) return true;
  }
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    if (!slot.state.InFlight(slot.step, i)) continue;
    status = PlanLayer(slot, i, &requests_[i]);
    if (status.ok()) status = GatherLayer(slot, i, requests_[i]);
    if (status.ok()) slot.state.End(slot.step, i, status);
  }
  if (!status.ok()) slot.state.EndAll(slot.step, status);
  // Ids that are late still come.
  if (slot.device_row_ids != nullptr) slot.ids_here->Wait(MonotonicTime::Infinite()).IgnoreError();
  // What the hot cache held is on its way, though it is of no use.
  if (!status.ok() && hot_ != nullptr) Settle();
  return false;
}

absl::Status TransportFetch::SubmitStep(StepSlot& slot) {
  size_t asked = 0;
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    slot.batch_index[i] = StepSlot::kNotAsked;
    if (layout_.layers[i].columns == 0) continue;
    absl::Status status = PlanLayer(slot, i, &requests_[asked]);
    if (!status.ok()) return status;
    if (!requests_[asked].row_ids.empty()) slot.batch_index[i] = static_cast<uint32_t>(asked++);
  }
  if (asked == 0) return absl::OkStatus();  // the hot cache has them all
  const absl::StatusOr<Ticket> ticket = transport_.Submit(
      {.layers = absl::MakeConstSpan(requests_).first(asked), .deadline = slot.deadline});
  if (!ticket.ok()) return ticket.status();
  slot.transport_ticket.store(ticket->number);
  // Cancelled meanwhile, and there was no ticket to cancel.
  if (!slot.state.AnyInFlight(slot.step)) transport_.Cancel(*ticket);
  return absl::OkStatus();
}

absl::Status TransportFetch::PlanLayer(StepSlot& slot, size_t layer, LayerRequest* request) {
  const StepLayout::Layer& shape = layout_.layers[layer];
  const bool all_travel = !distinct_ && hot_ == nullptr;
  if (slot.device_row_ids == nullptr) {
    ENGRAM_RETURN_IF_ERROR(AddressLayer(addresser_, layout_, layer, &slot));
  } else if (!all_travel) {
    // What travels does not stand in columns any more: nobody behind this sees which one an id was
    // in, and an id of another column is a row like any other.
    ENGRAM_RETURN_IF_ERROR(CheckColumnIds(addresser_.scheme().layers[layer], shape.slice,
                                          LayerIds(layout_, slot, layer)));
  }
  if (distinct_) MakeDistinct(slot, layer);
  if (hot_ != nullptr) {
    MutexLock lock(side_mutex_);
    ENGRAM_RETURN_IF_ERROR(hot_->Lookup(slot, layer, side_));
  }
  const absl::Span<const RowId> all = LayerIds(layout_, slot, layer);
  const absl::Span<const RowId> ids =
      all_travel ? all : absl::MakeConstSpan(slot.travel_ids[layer]);
  slot.row_counts[layer] = static_cast<uint32_t>(distinct_ ? ids.size() : all.size());
  // Our own ids are of their columns; those that the device made are the transport's to check.
  const bool check_columns = slot.device_row_ids != nullptr && all_travel;
  *request = {.layer = shape.layer,
              .row_ids = ids,
              .landing = {.data = slot.landing + shape.fetched_offset},
              .slice = check_columns ? &shape.slice : nullptr};
  return absl::OkStatus();
}

void TransportFetch::MakeDistinct(StepSlot& slot, size_t layer) {
  deduplicator_.DistinctInverse(LayerIds(layout_, slot, layer), &slot.travel_ids[layer], &inverse_);
  std::copy(inverse_.begin(), inverse_.end(),
            slot.inverse.as<uint32_t>() + layout_.max_tokens * layout_.layers[layer].first_column);
}

absl::Status TransportFetch::GatherLayer(StepSlot& slot, size_t layer,
                                         const LayerRequest& request) {
  absl::Status status;
  if (!request.row_ids.empty()) {
    const absl::StatusOr<Ticket> ticket =
        transport_.Submit({.layers = {&request, 1}, .deadline = slot.deadline});
    if (!ticket.ok()) return ticket.status();
    status = transport_.Wait(*ticket);
    transport_.Reap(*ticket);
  }
  return status.ok() ? BringToPlace(slot, layer) : status;
}

void TransportFetch::Land(StepSlot& slot) {
  const Ticket ticket{slot.transport_ticket.load()};
  absl::Status status;
  bool all_placed = true;
  for (size_t i = 0; status.ok() && i < layout_.layers.size(); ++i) {
    if (layout_.layers[i].columns == 0) continue;
    if (slot.batch_index[i] != StepSlot::kNotAsked)
      status = transport_.WaitLayer(ticket, slot.batch_index[i]);
    const bool wanted = status.ok() && slot.state.InFlight(slot.step, i);
    all_placed = all_placed && wanted;
    if (!wanted) continue;
    status = BringToPlace(slot, i);
    if (status.ok()) slot.state.End(slot.step, i, status);
  }
  if (!status.ok()) slot.state.EndAll(slot.step, status);
  if (ticket.number != 0) {
    slot.transport_ticket.store(0);
    transport_.Reap(ticket);
  }
  if (hot_ != nullptr && (!all_placed || !status.ok())) Settle();
}

absl::Status TransportFetch::BringToPlace(StepSlot& slot, size_t layer) {
  if (!placer_.Moves(slot)) return absl::OkStatus();
  absl::Status status = EnqueuePlacing(slot, layer);
  if (status.ok()) return slot.placed_here[layer]->Wait(MonotonicTime::Infinite());
  // What was enqueued before the error still reads and writes the slot's buffers.
  Settle();
  return status;
}

absl::Status TransportFetch::EnqueuePlacing(StepSlot& slot, size_t layer) {
  MutexLock lock(side_mutex_);
  if (hot_ == nullptr) return placer_.BringLanded(slot, layer);
  absl::Status status = hot_->Place(slot, layer, side_);
  if (status.ok()) status = placer_.PlaceFetched(slot, layer);
  // Behind the layer's event: the layer need not wait for what the next steps may find.
  return status.ok() ? hot_->Keep(slot, layer, side_) : status;
}

void TransportFetch::Settle() {
  MutexLock lock(side_mutex_);
  side_.Synchronize().IgnoreError();
}

void TransportFetch::Cancel(StepSlot& slot) {
  const uint64_t ticket = slot.transport_ticket.load();
  if (ticket != 0) transport_.Cancel(Ticket{ticket});
}

}  // namespace engram
