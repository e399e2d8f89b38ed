#include "client/transport/testing/fault_transport.h"

#include <algorithm>
#include <utility>

#include "memstore/base/clock.h"
#include "memstore/os/thread.h"

namespace engram::testing {

FaultTransport::FaultTransport(std::unique_ptr<Transport> over, std::function<Fate(uint64_t)> fate)
    : over_(std::move(over)),
      fate_(std::move(fate)),
      capabilities_{.name = "fault",
                    .lands_asynchronously = true,
                    .max_batch_rows = over_->capabilities().max_batch_rows},
      thread_(StartThread("fault", [this] { Run(); }).value()) {}

FaultTransport::~FaultTransport() {
  for (const Ticket ticket : tickets_.OpenTickets()) FaultTransport::Reap(ticket);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

absl::StatusOr<Ticket> FaultTransport::Submit(const BatchRequest& request) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto batch = std::make_shared<Batch>();
  batch->fate = fate_(submitted_++);
  if (!batch->fate.submit.ok()) return batch->fate.submit;
  batch->deadline = request.deadline;
  batch->due = RealClock().Now() + batch->fate.delay;
  batch->layers.assign(request.layers.begin(), request.layers.end());
  for (LayerRequest& layer : batch->layers) {
    batch->ids.emplace_back(layer.row_ids.begin(), layer.row_ids.end());
  }
  for (size_t i = 0; i < batch->layers.size(); ++i) batch->layers[i].row_ids = batch->ids[i];
  absl::StatusOr<Ticket> ticket = tickets_.Open(batch);
  if (ticket.ok()) pending_.push_back(std::move(batch));
  changed_.notify_all();
  return ticket;
}

void FaultTransport::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_) {
    pending_.remove_if([](const std::shared_ptr<Batch>& batch) { return batch->reaped; });
    const auto next =
        std::min_element(pending_.begin(), pending_.end(),
                         [](const auto& a, const auto& b) { return a->due < b->due; });
    if (next == pending_.end()) {
      changed_.wait(lock);
    } else if ((*next)->due > RealClock().Now()) {
      changed_.wait_until(lock, ToSteadyTime((*next)->due));
    } else {
      const std::shared_ptr<Batch> batch = *next;
      Advance(*batch, lock);
      if (batch->carried_out == batch->layers.size()) pending_.remove(batch);
    }
  }
}

void FaultTransport::Advance(Batch& batch, std::unique_lock<std::mutex>& lock) {
  const size_t layer = batch.carried_out;
  if (!batch.fate.error.ok() && layer == batch.fate.failing_layer &&
      batch.state == TicketState::kInFlight) {
    batch.state = TicketState::kFailedLent;
    batch.status = batch.fate.error;
    changed_.notify_all();
  }
  if (batch.state == TicketState::kFailedLent && !batch.counted_late) {
    batch.counted_late = true;
    ++late_batches_;
  }
  order_.push_back(batch.layers[layer].layer);
  batch.working = true;
  lock.unlock();
  const absl::StatusOr<Ticket> ticket = over_->Submit({.layers = {&batch.layers[layer], 1}});
  absl::Status status = ticket.status();
  if (ticket.ok()) {
    status = over_->Wait(*ticket);
    over_->Reap(*ticket);
  }
  lock.lock();
  batch.working = false;
  ++batch.carried_out;
  batch.due = RealClock().Now() + batch.fate.layer_delay;
  if (batch.state == TicketState::kInFlight) {
    if (!status.ok()) {
      batch.state = TicketState::kFailedLent;
      batch.status = status;
    } else if (++batch.landed == batch.layers.size()) {
      batch.state = TicketState::kLanded;
    }
  }
  changed_.notify_all();
}

TicketState FaultTransport::Poll(Ticket ticket) {
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  std::lock_guard<std::mutex> lock(mutex_);
  return batch == nullptr ? TicketState::kReaped : batch->state;
}

absl::Status FaultTransport::WaitUntil(Ticket ticket, size_t layers) {
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  if (batch == nullptr) return absl::FailedPreconditionError("the ticket was reaped");
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ended = [&] {
    return batch->state != TicketState::kInFlight || batch->landed >= layers;
  };
  if (batch->fate.deaf) {
    changed_.wait(lock, ended);
  } else if (!changed_.wait_until(lock, ToSteadyTime(batch->deadline), ended)) {
    batch->state = TicketState::kFailedLent;
    batch->status = absl::DeadlineExceededError("the batch's deadline passed");
  }
  return batch->landed >= layers ? absl::OkStatus() : batch->status;
}

absl::Status FaultTransport::Wait(Ticket ticket) {
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  return WaitUntil(ticket, batch == nullptr ? 0 : batch->layers.size());
}

absl::Status FaultTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntil(ticket, index + 1);
}

void FaultTransport::Cancel(Ticket ticket) {
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  std::lock_guard<std::mutex> lock(mutex_);
  if (batch == nullptr || batch->state != TicketState::kInFlight) return;
  batch->state = TicketState::kFailedLent;
  batch->status = absl::CancelledError("the batch was cancelled");
  changed_.notify_all();
}

void FaultTransport::Reap(Ticket ticket) {
  FaultTransport::Cancel(ticket);
  const std::shared_ptr<Batch> batch = tickets_.Close(ticket);
  if (batch == nullptr) return;
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return !batch->working; });
  batch->reaped = true;
  batch->state = TicketState::kReaped;
  changed_.notify_all();
}

uint64_t FaultTransport::late_batches() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return late_batches_;
}

std::vector<uint32_t> FaultTransport::order() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return order_;
}

}  // namespace engram::testing
