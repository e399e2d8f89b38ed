// ClusterTransport's parts: what the router wants done with them, and what comes of it.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cluster/cluster_transport.h"
#include "client/transport/failure_mark.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {

void ClusterTransport::WantPump() {
  if (!pumping_ && (!actions_.empty() || !ended_.empty())) wants_pump_ = true;
}

void ClusterTransport::OnLayerLanded(uint64_t attempt, size_t index) {
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return;
    router_.LayerLanded(attempt, found->second->layers[index], clock().Now(), &actions_);
    WantPump();
  }
  if (wants_pump_ && waiting_ == 0) WakeSoon();
}

void ClusterTransport::OnTicketEnded(uint64_t attempt, const absl::Status& status) {
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return;
    Sent& sent = *found->second;
    if (sent.written_over != nullptr) {
      lock.Unlock();
      OnWrittenEnded(attempt, status);
      if (wants_pump_ && waiting_ == 0) WakeSoon();
      return;
    }
    const MonotonicTime now = clock().Now();
    if (IsBroken(status) && !sent.is_broken) {
      // Once for all that was under way there, whose own ends follow.
      for (const auto& [id, other] : sent_) {
        if (other->over == sent.over) other->is_broken = true;
      }
      router_.ConnectionBroken(sent.store, now, &actions_);
    }
    router_.Reply(attempt, status, RetryAfterOf(status), now, &actions_);
    sent.has_ended = true;
    if (sent.has_ticket) ended_.push_back(attempt);
    WantPump();
  }
  if (wants_pump_ && waiting_ == 0) WakeSoon();
}

bool ClusterTransport::BeginLanding(uint64_t attempt) {
  TicketRef<ClusterBatch> batch;
  uint32_t part = 0;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return false;
    batch = found->second->batch;
    part = found->second->part;
  }
  TicketLock lock(*this);
  AwaitCopies(*batch, part);
  if (!batch->in_flight()) return false;
  {
    MutexLock router_lock(router_mutex_);
    const bool may_land = router_.MayLand(attempt, clock().Now(), &actions_);
    WantPump();
    if (!may_land) return false;
  }
  batch->is_copied[part] = 1;
  return BeginWrite(*batch);
}

void ClusterTransport::EndLanding(uint64_t attempt) {
  TicketRef<ClusterBatch> batch;
  uint32_t part = 0;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    ENGRAM_CHECK(found != sent_.end(), "an attempt that writes was forgotten");
    batch = found->second->batch;
    part = found->second->part;
  }
  TicketLock lock(*this);
  batch->is_copied[part] = 0;
  changed_.NotifyAll();  // whoever copies or writes the same part next waits for it
  EndWrite(*batch);
}

void ClusterTransport::Pump() {
  bool has_news = false;
  bool has_done = false;
  while (true) {
    {
      MutexLock lock(router_mutex_);
      if (pumping_ || (actions_.empty() && ended_.empty())) break;
      pumping_ = true;
      wants_pump_ = false;
      doing_.swap(actions_);
      reaping_.swap(ended_);
    }
    has_done = true;
    for (const RouterAction& action : doing_) has_news |= Do(action);
    for (const AttemptId attempt : reaping_) ReapSent(attempt);
    doing_.clear();
    reaping_.clear();
    MutexLock lock(router_mutex_);
    pumping_ = false;
  }
  if (!has_done) return;
  WakeAtNextTick();
  if (has_news && waiting_ > 0) parts_.driver->Kick();
}

bool ClusterTransport::Do(const RouterAction& action) {
  switch (action.kind) {
    case ActionKind::kSend:
      Send(action);
      return false;
    case ActionKind::kCancel:
      CancelSent(action.attempt);
      return false;
    case ActionKind::kLayer: {
      TicketLock lock(*this);
      auto* const batch = static_cast<ClusterBatch*>(Find(Ticket{action.tag}));
      if (batch != nullptr) LandLayer(*batch, batch->PlaceOfLayer(action.layer));
      return true;
    }
    case ActionKind::kFailed: {
      TicketLock lock(*this);
      TicketedBatch* const batch = Find(Ticket{action.tag});
      if (batch != nullptr) Fail(*batch, action.status);
      return true;
    }
    case ActionKind::kEject:
      parts_.directory->LookAgain();
      return false;
    case ActionKind::kAskForMap: {
      // Every store says what it holds every second: what all of them said after this is a map.
      MutexLock lock(router_mutex_);
      for (const MapStore& store : router_.map()->stores()) asked_.insert(store.address);
      return false;
    }
    case ActionKind::kSplitAgain:
      SplitAgain(action);
      return false;
    case ActionKind::kForget:
      Forget(action.store);
      return false;
    case ActionKind::kDrain:
      DrainSent(action.attempt);
      return true;
    case ActionKind::kLanded:    // its last layer, or the last writer's end, said so
    case ActionKind::kReleased:  // the gate is closed since it failed, and no writer is left
    case ActionKind::kTryAgain:
    case ActionKind::kFence:
      return false;
  }
  return false;
}

TicketRef<ClusterBatch> ClusterTransport::BatchOf(uint64_t tag) {
  TicketLock lock(*this);
  TicketedBatch* const batch = Find(Ticket{tag});
  if (batch == nullptr || !batch->in_flight()) return TicketRef<ClusterBatch>();
  return TicketRef<ClusterBatch>(static_cast<ClusterBatch*>(batch));
}

absl::StatusOr<std::shared_ptr<Transport>> ClusterTransport::LinkTo(StoreId store) {
  std::string address;
  {
    MutexLock lock(router_mutex_);
    address = std::string(router_.AddressOf(store));
    const auto found = links_.find(store);
    if (found != links_.end() && found->second.address == address &&
        found->second.transport != nullptr) {
      return found->second.transport;
    }
  }
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<Transport> opened, parts_.open(address));
  MutexLock lock(router_mutex_);
  Link& link = links_[store];
  if (link.address != address) {  // it had another one, or none
    if (link.transport != nullptr) forgotten_.push_back(std::move(link.transport));
    CloseFaster(store, link);
    link.address = address;
    if (ways_ != nullptr) ways_->Want(store, address);
  }
  link.transport = std::move(opened);
  return link.transport;
}

void ClusterTransport::NoteSent(const RouterAction& action, const TicketRef<ClusterBatch>& batch,
                                Sent sent) {
  sent.batch = batch;
  sent.store = action.store;
  sent.part = action.part;
  part_request_.Clear();
  MutexLock lock(router_mutex_);
  // What the caller's batch asks of the part, but for what has landed.
  for (const PartLayer& layer : batch->PartAt(action.part).layers) {
    if (!router_.IsMissing(action.batch, action.part, layer.request)) continue;
    sent.layers.push_back(layer.request);
    part_request_.Add(*batch, action.part, layer);
  }
  sent_[action.attempt] = std::make_unique<Sent>(std::move(sent));
}

void ClusterTransport::SplitAgain(const RouterAction& action) {
  const TicketRef<ClusterBatch> batch = BatchOf(action.tag);
  if (batch.get() == nullptr) return;  // and nothing of it is wanted any more
  std::vector<uint32_t> missing;
  {
    MutexLock lock(router_mutex_);
    for (const PartLayer& layer : batch->PartAt(action.part).layers) {
      if (router_.IsMissing(action.batch, action.part, layer.request)) {
        missing.push_back(layer.request);
      }
    }
  }
  while (true) {
    std::shared_ptr<const ClusterMap> map;
    std::unique_ptr<BatchSplit> split;
    {
      MutexLock lock(split_mutex_);
      map = splitter_->map();
      split = batch->SplitAgain(action.part, missing, *splitter_);
    }
    TicketLock tickets(*this);
    MutexLock lock(router_mutex_);
    const absl::Status status = router_.TakeSplit(action.batch, action.part, map.get(),
                                                  split->parts(), clock().Now(), &actions_);
    if (absl::IsAborted(status)) continue;
    if (status.ok()) batch->Add(std::move(split));
    return;
  }
}

void ClusterTransport::Send(const RouterAction& action) {
  TicketRef<ClusterBatch> batch = BatchOf(action.tag);
  if (batch.get() == nullptr) {
    return NotSent(action, absl::CancelledError("its ticket is no longer in flight"));
  }
  if (action.way == LandingWay::kWritten) return SendWritten(action, batch);
  if (SendMapped(action, batch)) return;
  absl::StatusOr<std::shared_ptr<Transport>> over = LinkTo(action.store);
  if (!over.ok()) return NotSent(action, over.status());
  NoteSent(action, batch, {.over = *over});
  const absl::StatusOr<Ticket> ticket = SubmitPart(action, *batch, **over);
  if (!ticket.ok()) {
    {
      MutexLock lock(router_mutex_);
      sent_.erase(action.attempt);
    }
    return NotSent(action, ticket.status());
  }
  MutexLock lock(router_mutex_);
  Sent& sent = *sent_.at(action.attempt);
  sent.ticket = *ticket;
  sent.has_ticket = true;
  if (sent.has_ended) ended_.push_back(action.attempt);
}

absl::StatusOr<BatchRequest> ClusterTransport::RequestFor(const RouterAction& action,
                                                          const ClusterBatch& batch,
                                                          const Transport& over) {
  ENGRAM_ASSIGN_OR_RETURN(BatchRequest request,
                          part_request_.For(over.capabilities(), batch, addressers_));
  request.deadline = action.deadline;
  return request;
}

absl::StatusOr<Ticket> ClusterTransport::SubmitPart(const RouterAction& action,
                                                    const ClusterBatch& batch, Transport& over) {
  ENGRAM_ASSIGN_OR_RETURN(BatchRequest request, RequestFor(action, batch, over));
  request.sink = this;
  request.sink_tag = action.attempt;
  request.gate = this;
  request.gate_tag = action.attempt;
  return over.Submit(request);
}

void ClusterTransport::NotSent(const RouterAction& action, const absl::Status& why) {
  MutexLock lock(router_mutex_);
  const MonotonicTime now = clock().Now();
  // No failure of the store's.
  if (absl::IsCancelled(why)) router_.Cancel(action.batch, now, &actions_);
  router_.Reply(action.attempt, why, RetryAfterOf(why), now, &actions_);
}

void ClusterTransport::CancelSent(AttemptId attempt) {
  std::shared_ptr<Transport> over;
  Ticket ticket;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return;
    over = found->second->over;
    ticket = found->second->ticket;
  }
  over->Cancel(ticket);
}

void ClusterTransport::ReapSent(AttemptId attempt) {
  std::shared_ptr<Transport> over;
  Ticket ticket;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return;
    over = found->second->over;
    ticket = found->second->ticket;
  }
  over->Reap(ticket);
  MutexLock lock(router_mutex_);
  sent_.erase(attempt);
}

void ClusterTransport::Forget(StoreId store) {
  MutexLock lock(router_mutex_);
  const auto found = links_.find(store);
  if (found == links_.end()) return;
  if (found->second.transport != nullptr) {
    forgotten_.push_back(std::move(found->second.transport));
  }
  CloseFaster(store, found->second);
  links_.erase(found);
  if (ways_ != nullptr) ways_->Forget(store);
}

// Not from the driver's events, in which no transport of its may end: by whoever submits next.
void ClusterTransport::CloseForgotten() {
  std::vector<std::shared_ptr<Transport>> closing;
  MutexLock lock(router_mutex_);
  for (size_t i = 0; i < forgotten_.size();) {
    if (forgotten_[i].use_count() > 1) {
      ++i;
      continue;
    }
    closing.push_back(std::move(forgotten_[i]));
    forgotten_.erase(forgotten_.begin() + static_cast<ptrdiff_t>(i));
  }
  lock.Unlock();
  closing.clear();
}

}  // namespace engram
