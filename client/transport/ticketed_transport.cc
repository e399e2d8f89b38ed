#include "client/transport/ticketed_transport.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

absl::Status NoSuchTicket() {
  return absl::FailedPreconditionError("the ticket was reaped, or never given out");
}

}  // namespace

TicketedTransport::TicketedTransport(TicketOptions options)
    : clock_(*options.clock),
      owner_(std::move(options.owner)),
      reap_patience_(options.reap_patience),
      slots_(options.spare_batches) {
  to_tell_.reserve(kMaxOpenTickets);
}

TicketedTransport::~TicketedTransport() {
  ENGRAM_CHECK(disowned_ || slots_.empty(), "a transport ends by reaping its tickets (ReapAll)");
}

void TicketedTransport::ReapAll() {
  std::vector<Ticket> open;
  {
    TicketLock lock(*this);
    slots_.ForEach([&](const TicketedBatch& batch) { open.push_back(batch.ticket()); });
  }
  for (const Ticket ticket : open) TicketedTransport::Reap(ticket);
}

void TicketedTransport::Disown() { disowned_ = true; }

absl::Status TicketedTransport::Start(const BatchRequest&, TicketedBatch&) {
  ENGRAM_CHECK(false, "a transport that lands asynchronously starts its batches (Start)");
  return absl::OkStatus();
}

void TicketedTransport::Advance(TicketedBatch&) {}

void TicketedTransport::Drive(TicketedBatch&, const Awaited& awaited, MonotonicTime until) {
  TicketLock lock(*this);
  while (!awaited.Reached() && clock_.WaitUntil(changed_, mutex_, until)) {
  }
}

void TicketedTransport::StopWriters(TicketedBatch& batch) {
  TicketLock lock(*this);
  while (batch.writers() > 0) changed_.Wait(mutex_);
}

absl::StatusOr<Ticket> TicketedTransport::Submit(const BatchRequest& request) {
  ENGRAM_RETURN_IF_ERROR(CheckUsable());
  ENGRAM_RETURN_IF_ERROR(Prepare(request));
  if (!capabilities().lands_asynchronously) {
    ENGRAM_ASSIGN_OR_RETURN(const TicketedBatch* const landed, Open(request, TicketState::kLanded));
    return landed->ticket();
  }
  ENGRAM_ASSIGN_OR_RETURN(TicketedBatch* const batch, Open(request, TicketState::kInFlight));
  const Ticket ticket = batch->ticket();
  if (LandEmptyLayers(request, *batch)) {
    Publish(*batch);
    return ticket;
  }
  if (absl::Status status = Start(request, *batch); !status.ok()) {
    Abandon(*batch);
    return status;
  }
  Publish(*batch);
  return ticket;
}

absl::StatusOr<TicketedBatch*> TicketedTransport::Open(const BatchRequest& request,
                                                       TicketState state) {
  TicketLock lock(*this);
  if (slots_.full()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxOpenTickets,
                     " tickets are open: reap those that landed or failed before submitting more"));
  }
  TicketRef<TicketedBatch> batch = slots_.TakeSpare();
  if (batch.get() == nullptr) batch = TicketRef<TicketedBatch>(NewBatch().release());
  TicketedBatch* const opened = batch.get();
  opened->Begin(slots_.Open(std::move(batch)), request, state);
  next_deadline_ = std::min(next_deadline_, request.deadline);
  if (state == TicketState::kLanded) HasNews(*opened);
  return opened;
}

bool TicketedTransport::LandEmptyLayers(const BatchRequest& request, TicketedBatch& batch) {
  bool any = false;
  for (size_t i = 0; i < request.layers.size() && !any; ++i) any = AsksForNoRows(request, i);
  if (!any) return false;
  TicketLock lock(*this);
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) LandLayer(batch, i);
  }
  return batch.AllLayersLanded();
}

// From now on sinks are told of it: of what happened meanwhile, too.
void TicketedTransport::Publish(TicketedBatch& batch) {
  if (batch.sink_ == nullptr) {
    batch.published_.store(true, std::memory_order_release);
    return;
  }
  TicketLock lock(*this);
  batch.published_.store(true, std::memory_order_release);
  HasNews(batch);
}

void TicketedTransport::Abandon(TicketedBatch& batch) {
  TicketLock lock(*this);
  ENGRAM_CHECK(batch.writers() == 0, "a batch that was not started has a writer");
  Forget(batch);
  Close(batch);
}

void TicketedTransport::Close(TicketedBatch& batch) {
  batch.state_.store(TicketState::kReaped, std::memory_order_release);
  slots_.Close(batch.ticket(), batch.MayBeKept());
}

TicketState TicketedTransport::Poll(Ticket ticket) {
  if (!CheckUsable().ok()) return TicketState::kReaped;
  TicketLock lock(*this);
  TicketedBatch* const found = slots_.Find(ticket);
  if (found == nullptr) return TicketState::kReaped;
  if (!found->in_flight()) return found->state();
  const TicketRef<TicketedBatch> batch(found);
  lock.Unlock();
  Advance(*batch);
  lock.Lock();
  // A caller that only polls learns all the same of what never comes.
  if (EndIfLate(*batch)) CancelOnce(*batch);
  return batch->state();
}

absl::Status TicketedTransport::Wait(Ticket ticket) { return WaitUntil(ticket, Awaited::kTicket); }

absl::Status TicketedTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntil(ticket, index);
}

absl::Status TicketedTransport::WaitUntil(Ticket ticket, size_t layer) {
  ENGRAM_RETURN_IF_ERROR(CheckUsable());
  TicketLock lock(*this);
  TicketedBatch* const found = slots_.Find(ticket);
  if (found == nullptr) return NoSuchTicket();
  if (!found->in_flight() || found->LayerLanded(layer)) return Outcome(*found, layer);
  const TicketRef<TicketedBatch> batch(found);
  const Awaited awaited(*batch, layer, /*no_writers=*/false);
  while (!awaited.Reached()) {
    lock.Unlock();
    Drive(*batch, awaited, batch->deadline());
    lock.Lock();
    if (!awaited.Reached() && EndIfLate(*batch)) CancelOnce(*batch);
  }
  return Outcome(*batch, layer);
}

absl::Status TicketedTransport::Outcome(const TicketedBatch& batch, size_t layer) {
  return batch.LayerLanded(layer) ? absl::OkStatus() : batch.status_;
}

bool TicketedTransport::EndIfLate(TicketedBatch& batch) {
  if (batch.deadline_.is_infinite() || batch.deadline_ > clock_.Now()) return false;
  return Fail(batch, absl::DeadlineExceededError(
                         absl::StrCat("the deadline passed before every row had landed",
                                      owner_.empty() ? "" : ", from ", owner_)));
}

MonotonicTime TicketedTransport::EndLate() {
  std::vector<TicketRef<TicketedBatch>> late;
  TicketLock lock(*this);
  const MonotonicTime now = clock_.Now();
  if (now < next_deadline_) return next_deadline_;
  MonotonicTime next = MonotonicTime::Infinite();
  slots_.ForEach([&](TicketedBatch& batch) {
    if (!batch.in_flight()) return;
    // One that Submit has not returned yet is its caller's to look at.
    if (batch.deadline_ > now || !batch.published_.load(std::memory_order_acquire)) {
      next = std::min(next, batch.deadline_);
    } else {
      late.emplace_back(&batch);
    }
  });
  next_deadline_ = next;
  for (const TicketRef<TicketedBatch>& batch : late) {
    if (EndIfLate(*batch)) CancelOnce(*batch);
  }
  return next_deadline_;
}

void TicketedTransport::Cancel(Ticket ticket) {
  if (!CheckUsable().ok()) return;
  TicketLock lock(*this);
  const TicketRef<TicketedBatch> batch(slots_.Find(ticket));
  if (batch.get() == nullptr || !batch->in_flight()) return;
  Fail(*batch, absl::CancelledError("the batch was cancelled"));
  CancelOnce(*batch);
}

void TicketedTransport::CancelOnce(TicketedBatch& batch) {
  if (std::exchange(batch.cancel_tried_, true)) return;
  UnlockAndTell();
  TryCancel(batch);
  mutex_.Lock();
}

void TicketedTransport::Reap(Ticket ticket) {
  if (!CheckUsable().ok()) return;
  TicketLock lock(*this);
  TicketedBatch* const found = slots_.Find(ticket);
  if (found == nullptr) return;
  if (found->state() == TicketState::kLanded && found->sink_ == nullptr && !found->reaping_) {
    Forget(*found);
    Close(*found);
    return;
  }
  const TicketRef<TicketedBatch> batch(found);
  if (std::exchange(batch->reaping_, true)) {
    while (batch->state() != TicketState::kReaped) changed_.Wait(mutex_);
    return;
  }
  if (batch->in_flight()) Fail(*batch, absl::CancelledError("the batch was reaped"));
  if (batch->state() != TicketState::kLanded) CancelOnce(*batch);
  AwaitNoWriters(*batch);
  TellRest(*batch);
  Forget(*batch);
  Close(*batch);
  changed_.NotifyAll();
}

bool TicketedTransport::TryReap(Ticket ticket) {
  if (!CheckUsable().ok()) return true;
  TicketLock lock(*this);
  TicketedBatch* const found = slots_.Find(ticket);
  if (found == nullptr) return true;
  if (found->in_flight()) return false;
  if (found->writers() > 0) {
    const TicketRef<TicketedBatch> batch(found);
    lock.Unlock();
    Advance(*batch);
    lock.Lock();
    if (batch->writers() > 0) return false;
  }
  lock.Unlock();
  // No writer begins on what is not IN_FLIGHT, so this does not wait for one.
  Reap(ticket);
  return true;
}

void TicketedTransport::AwaitNoWriters(TicketedBatch& batch) {
  if (batch.writers() == 0) return;
  const Awaited none(batch, Awaited::kTicket, /*no_writers=*/true);
  const MonotonicTime patience = clock_.Now() + reap_patience_;
  while (!none.Reached() && clock_.Now() < patience) {
    UnlockAndTell();
    Drive(batch, none, patience);
    mutex_.Lock();
  }
  if (none.Reached()) return;
  UnlockAndTell();
  StopWriters(batch);
  mutex_.Lock();
  ENGRAM_CHECK(batch.writers() == 0, "a buffer is given back and may still be written to");
}

bool TicketedTransport::BeginWrite(TicketedBatch& batch) {
  if (!batch.in_flight()) return false;
  batch.writers_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

void TicketedTransport::EndWrite(TicketedBatch& batch) {
  ENGRAM_CHECK(batch.writers() > 0, "a writer ended twice");
  batch.writers_.fetch_sub(1, std::memory_order_release);
  LandIfComplete(batch);
  if (!batch.in_flight()) changed_.NotifyAll();
}

void TicketedTransport::EndAllWrites(TicketedBatch& batch) {
  if (batch.writers() == 0) return;
  batch.writers_.store(0, std::memory_order_release);
  LandIfComplete(batch);
  if (!batch.in_flight()) changed_.NotifyAll();
}

void TicketedTransport::LandLayer(TicketedBatch& batch, size_t index) {
  ENGRAM_CHECK(index < batch.layers_, "a layer landed that the batch does not have");
  if (!batch.in_flight()) return;
  ENGRAM_CHECK(!batch.LayerLanded(index), "a layer landed twice");
  batch.landed_[index].store(true, std::memory_order_release);
  ++batch.landed_layers_;
  if (batch.sink_ != nullptr) batch.landed_order_.push_back(index);
  HasNews(batch);
  changed_.NotifyAll();
  LandIfComplete(batch);
}

void TicketedTransport::LandIfComplete(TicketedBatch& batch) {
  if (!batch.in_flight() || !batch.AllLayersLanded() || batch.writers() > 0) return;
  End(batch, TicketState::kLanded, absl::OkStatus());
}

bool TicketedTransport::Fail(TicketedBatch& batch, absl::Status status) {
  ENGRAM_CHECK(!status.ok(), "a batch fails with an error");
  if (!batch.in_flight()) return false;
  End(batch, TicketState::kFailedLent, std::move(status));
  return true;
}

void TicketedTransport::End(TicketedBatch& batch, TicketState state, absl::Status status) {
  batch.status_ = std::move(status);
  batch.state_.store(state, std::memory_order_release);
  HasNews(batch);
  changed_.NotifyAll();
}

// Puts the batch into the list of those whose sinks are to be told once the lock is given back.
void TicketedTransport::HasNews(TicketedBatch& batch) {
  if (batch.waits_to_tell_ || !batch.HasNews()) return;
  if (!batch.published_.load(std::memory_order_relaxed)) return;
  batch.waits_to_tell_ = true;
  to_tell_.emplace_back(&batch);
}

void TicketedTransport::UnlockAndTell() {
  if (!to_tell_.empty()) TellAll();
  mutex_.Unlock();
}

void TicketedTransport::TellAll() {
  while (!to_tell_.empty()) {
    const TicketRef<TicketedBatch> batch = std::move(to_tell_.back());
    to_tell_.pop_back();
    batch->waits_to_tell_ = false;
    // Whoever tells it already goes on until there is nothing left.
    if (!batch->telling_) Tell(*batch);
  }
}

// Only one thread at a time tells of a batch, so its sink is told in order.
void TicketedTransport::Tell(TicketedBatch& batch) {
  batch.telling_ = true;
  while (batch.HasNews()) {
    if (batch.told_layers_ < batch.landed_order_.size()) {
      const size_t index = batch.landed_order_[batch.told_layers_++];
      mutex_.Unlock();
      batch.sink_->OnLayerLanded(batch.sink_tag_, index);
    } else {
      batch.told_end_ = true;
      const absl::Status status = batch.status_;
      mutex_.Unlock();
      batch.sink_->OnTicketEnded(batch.sink_tag_, status);
    }
    mutex_.Lock();
  }
  batch.telling_ = false;
  changed_.NotifyAll();
}

// Returns when the sink was told everything: after it nothing more comes.
void TicketedTransport::TellRest(TicketedBatch& batch) {
  while (batch.telling_) changed_.Wait(mutex_);
  Tell(batch);
  if (!batch.waits_to_tell_) return;
  batch.waits_to_tell_ = false;
  to_tell_.erase(std::find(to_tell_.begin(), to_tell_.end(), &batch));
}

}  // namespace engram
