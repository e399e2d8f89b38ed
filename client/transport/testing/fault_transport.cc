#include "client/transport/testing/fault_transport.h"

#include <algorithm>
#include <utility>

#include "client/transport/batch_check.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"

namespace engram::testing {

FaultTransport::FaultTransport(std::unique_ptr<Transport> over, std::function<Fate(uint64_t)> fate,
                               Clock& clock)
    : TicketedTransport({.clock = &clock, .reap_patience = absl::ZeroDuration()}),
      over_(std::move(over)),
      fate_(std::move(fate)),
      capabilities_{.name = "fault",
                    .lands_asynchronously = true,
                    .max_batch_rows = over_->capabilities().max_batch_rows},
      thread_(StartThread("fault", [this] { Run(); }).value()) {}

FaultTransport::~FaultTransport() {
  ReapAll();
  {
    TicketLock lock(*this);
    ending_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
}

absl::Status FaultTransport::Prepare(const BatchRequest& request) {
  return CheckBatch(request, table_set().manifest, capabilities_, clock());
}

size_t FaultTransport::Batch::NextWithRows(size_t layer) const {
  while (layer < ids.size() && ids[layer].empty()) ++layer;
  return layer;
}

absl::Status FaultTransport::Start(const BatchRequest& request, TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  own.fate = fate_(submitted_.fetch_add(1));
  ENGRAM_RETURN_IF_ERROR(own.fate.submit);
  TicketLock lock(*this);
  own.due = clock().After(own.fate.delay);
  own.layer_requests.assign(request.layers.begin(), request.layers.end());
  own.ids.clear();
  for (LayerRequest& layer : own.layer_requests) {
    own.ids.emplace_back(layer.row_ids.begin(), layer.row_ids.end());
    layer.slice = nullptr;  // the caller's; the ids have been held against it
  }
  for (size_t i = 0; i < own.ids.size(); ++i) own.layer_requests[i].row_ids = own.ids[i];
  own.carried_out = own.NextWithRows(0);
  own.counted_late = false;
  BeginWrite(own);
  pending_.emplace_back(&own);
  changed_.NotifyAll();
  return absl::OkStatus();
}

void FaultTransport::Run() {
  TicketLock lock(*this);
  while (!ending_) {
    const auto next =
        std::min_element(pending_.begin(), pending_.end(),
                         [](const auto& a, const auto& b) { return a->due < b->due; });
    if (next == pending_.end()) {
      changed_.Wait(mutex_);
    } else if ((*next)->due > clock().Now()) {
      clock().WaitUntil(changed_, mutex_, (*next)->due);
    } else {
      // NOLINTNEXTLINE(performance-unnecessary-copy-initialization): it leaves pending_
      const TicketRef<Batch> batch = *next;
      CarryOut(*batch);
      // Sinks are told before this thread sleeps.
      lock.Unlock();
      lock.Lock();
    }
  }
}

void FaultTransport::CarryOut(Batch& batch) {
  const size_t layer = batch.carried_out;
  if (!batch.fate.error.ok() && layer >= batch.fate.failing_layer) Fail(batch, batch.fate.error);
  if (batch.state() == TicketState::kFailedLent && !std::exchange(batch.counted_late, true)) {
    ++late_batches_;
  }
  order_.push_back(batch.layer_requests[layer].layer);
  batch.working = true;
  UnlockAndTell();
  const absl::StatusOr<Ticket> ticket =
      over_->Submit({.layers = {&batch.layer_requests[layer], 1}});
  absl::Status status = ticket.status();
  if (ticket.ok()) {
    status = over_->Wait(*ticket);
    over_->Reap(*ticket);
  }
  mutex_.Lock();
  batch.working = false;
  batch.carried_out = batch.NextWithRows(layer + 1);
  batch.due = clock().After(batch.fate.layer_delay);
  if (status.ok()) {
    LandLayer(batch, layer);
  } else {
    Fail(batch, status);
  }
  if (batch.carried_out == batch.layer_requests.size()) {
    pending_.remove_if([&](const auto& one) { return one == &batch; });
    EndWrite(batch);
  }
  changed_.NotifyAll();
}

void FaultTransport::Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) {
  const bool deaf = static_cast<Batch&>(batch).fate.deaf;
  TicketedTransport::Drive(batch, awaited, deaf ? MonotonicTime::Infinite() : until);
}

void FaultTransport::StopWriters(TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  TicketLock lock(*this);
  pending_.remove_if([&](const auto& one) { return one == &own; });
  while (own.working) changed_.Wait(mutex_);
  EndAllWrites(own);
}

uint64_t FaultTransport::late_batches() {
  TicketLock lock(*this);
  return late_batches_;
}

std::vector<uint32_t> FaultTransport::order() {
  TicketLock lock(*this);
  return order_;
}

}  // namespace engram::testing
