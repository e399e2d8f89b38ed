#include "client/transport/auto/auto_transport.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/auto/first_way.h"
#include "client/transport/batch_check.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/rdma/rdma_windows.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
absl::StatusOr<std::unique_ptr<Transport>> AutoTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const AutoOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(
      const std::shared_ptr<const GrpcAttachment> attachment,
      GrpcAttachment::Create(
          address, table_set,
          {.timeout = options.timeout, .security = options.security, .clock = options.clock}));
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<Transport> grpc,
                          GrpcTransport::Create(attachment, {.spin = options.spin}));
  FirstWay first = OpenFirstWay(attachment, {.shm_socket = attachment->offer().shm_socket},
                                {.rdma = {.timeout = options.timeout,
                                          .device = options.device,
                                          .resend = false,  // gRPC takes what a connection dropped
                                          .spin = options.spin}});
  return std::unique_ptr<Transport>(std::make_unique<AutoTransport>(
      std::move(first.transport), std::move(grpc), std::move(first.why), *options.clock));
}

AutoTransport::AutoTransport(std::unique_ptr<Transport> first, std::unique_ptr<Transport> fallback,
                             std::string why, Clock& clock)
    : TicketedTransport({.clock = &clock, .reap_patience = absl::ZeroDuration()}),
      first_(std::move(first)),
      fallback_(std::move(fallback)),
      capabilities_{.name = "auto",
                    .lands_asynchronously = true,
                    .max_batch_rows = std::min(
                        fallback_->capabilities().max_batch_rows,
                        (first_ != nullptr ? first_ : fallback_)->capabilities().max_batch_rows),
                    .lands_at_places =
                        fallback_->capabilities().lands_at_places &&
                        (first_ != nullptr ? first_ : fallback_)->capabilities().lands_at_places},
      why_(std::move(why)) {
  left_.store(first_ == nullptr);
  finished_.reserve(kMaxOpenTickets);
}

AutoTransport::~AutoTransport() {
  ReapAll();
  ReapFinished();
}

std::string AutoTransport::Describe() const {
  MutexLock lock(mutex_);
  const Transport& way = left_.load() ? *fallback_ : *first_;
  return absl::StrCat("auto took ", way.capabilities().name, why_.empty() ? "" : " (", why_,
                      why_.empty() ? "" : ")");
}

absl::Status AutoTransport::Register(absl::Span<std::byte> buffer) {
  ENGRAM_RETURN_IF_ERROR(fallback_->Register(buffer));
  if (first_ == nullptr) return absl::OkStatus();
  absl::Status status = first_->Register(buffer);
  // A way that is broken is left at the next batch.
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status AutoTransport::Unregister(absl::Span<std::byte> buffer) {
  ENGRAM_RETURN_IF_ERROR(fallback_->Unregister(buffer));
  return first_ == nullptr ? absl::OkStatus() : first_->Unregister(buffer);
}

absl::Status AutoTransport::Prepare(const BatchRequest& request) {
  // What has to be asked for again elsewhere is kept as row ids.
  if (request.tokens != nullptr) {
    return absl::UnimplementedError("auto takes row ids: Client::SubmitTokens works them out");
  }
  // A way checks what it is asked, and nothing of it is asked where no layer has rows.
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) {
      return CheckBatch(request, table_set().manifest, capabilities_, clock());
    }
  }
  return absl::OkStatus();
}

void AutoTransport::Remember(const BatchRequest& request, Batch& batch) {
  const size_t layers = request.layers.size();
  batch.layer_requests.assign(request.layers.begin(), request.layers.end());
  if (batch.ids.size() < layers) {
    batch.ids.resize(layers);
    batch.places.resize(layers);
  }
  for (size_t i = 0; i < layers; ++i) {
    LayerRequest& kept = batch.layer_requests[i];
    batch.ids[i].assign(kept.row_ids.begin(), kept.row_ids.end());
    batch.places[i].assign(kept.landing.places.begin(), kept.landing.places.end());
    kept.row_ids = batch.ids[i];
    kept.slice = nullptr;  // the caller's; the first way has held the ids against it
    kept.landing.places = batch.places[i];
  }
}

absl::Status AutoTransport::Start(const BatchRequest& request, TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  ReapFinished();
  own.on_way = {};
  own.interrupted = false;
  if (!left_.load()) {
    // What has landed when Submit returns is not asked for again.
    if (first_->capabilities().lands_asynchronously) Remember(request, own);
    const absl::Status status = StartOn(*first_, request, own);
    // gRPC lands in any memory.
    const bool unregistered = IsUnregistered(status);
    if (!unregistered && !absl::IsUnavailable(status)) return status;
    if (!unregistered) Leave(status);
  }
  return StartOn(*fallback_, request, own);
}

absl::Status AutoTransport::StartOn(Transport& way, const BatchRequest& request, Batch& own) {
  const bool later = way.capabilities().lands_asynchronously;
  BatchRequest on_way = request;
  on_way.sink = later && request.sink != nullptr ? this : nullptr;
  on_way.sink_tag = own.ticket().number;
  {
    TicketLock lock(*this);
    own.asked.resize(request.layers.size());
    for (size_t i = 0; i < own.asked.size(); ++i) own.asked[i] = i;
    own.on_way.way = &way;
    BeginWrite(own);
  }
  const absl::StatusOr<Ticket> ticket = way.Submit(on_way);
  if (ticket.ok() && !later) way.Reap(*ticket);
  TicketLock lock(*this);
  if (!ticket.ok()) {
    EndAllWrites(own);
    own.on_way = {};
    return ticket.status();
  }
  if (later) {
    own.on_way.ticket = *ticket;
  } else {
    own.on_way = {};
    LandRest(own);
  }
  return absl::OkStatus();
}

void AutoTransport::Advance(TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  WayTicket on_way;
  {
    TicketLock lock(*this);
    if (!own.interrupted) on_way = own.on_way;
  }
  if (on_way.way != nullptr) {
    const TicketState state = on_way.way->Poll(on_way.ticket);
    if (state == TicketState::kLanded || state == TicketState::kFailedLent) {
      TakeOutcome(own, on_way, Awaited::kTicket, on_way.way->Wait(on_way.ticket));
    }
  }
  ChangeOverInterrupted();
}

void AutoTransport::Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) {
  auto& own = static_cast<Batch&>(batch);
  ChangeOverInterrupted();
  WayTicket on_way;
  size_t index = Awaited::kTicket;
  {
    TicketLock lock(*this);
    // Another thread has it change over.
    while (own.interrupted && !awaited.Reached()) {
      if (!clock().WaitUntil(changed_, mutex_, until)) return;
    }
    if (awaited.Reached() || own.on_way.way == nullptr) return;
    on_way = own.on_way;
    const auto at = std::find(own.asked.begin(), own.asked.end(), awaited.layer());
    if (at != own.asked.end()) index = static_cast<size_t>(at - own.asked.begin());
  }
  const absl::Status status = index == Awaited::kTicket
                                  ? on_way.way->Wait(on_way.ticket)
                                  : on_way.way->WaitLayer(on_way.ticket, index);
  TakeOutcome(own, on_way, index, status);
  ChangeOverInterrupted();
}

void AutoTransport::TakeOutcome(Batch& batch, const WayTicket& on_way, size_t index,
                                const absl::Status& status) {
  TicketLock lock(*this);
  // It changed over meanwhile, and its ticket was reaped there.
  if (batch.interrupted || !(batch.on_way == on_way)) return;
  if (!status.ok()) {
    WayFailed(batch, status);
  } else if (index == Awaited::kTicket) {
    LandRest(batch);
  } else {
    LandOne(batch, index);
  }
}

void AutoTransport::OnLayerLanded(uint64_t tag, size_t index) {
  TicketLock lock(*this);
  if (TicketedBatch* const batch = Find({tag})) LandOne(static_cast<Batch&>(*batch), index);
}

void AutoTransport::OnTicketEnded(uint64_t tag, const absl::Status& status) {
  TicketLock lock(*this);
  TicketedBatch* const batch = Find({tag});
  if (batch == nullptr) return;
  if (status.ok()) {
    LandRest(static_cast<Batch&>(*batch));
  } else {
    WayFailed(static_cast<Batch&>(*batch), status);
  }
}

void AutoTransport::LandOne(Batch& batch, size_t way_index) {
  const size_t index = batch.asked[way_index];
  if (!batch.LayerLanded(index)) LandLayer(batch, index);
}

// The way's ticket has landed: nothing is written for it any more.
void AutoTransport::LandRest(Batch& batch) {
  if (batch.in_flight()) {
    for (size_t i = 0; i < batch.asked.size(); ++i) LandOne(batch, i);
  }
  EndAllWrites(batch);
}

void AutoTransport::WayFailed(Batch& batch, const absl::Status& status) {
  if (!batch.in_flight()) return;
  if (!absl::IsUnavailable(status) || batch.on_way.way != first_.get()) {
    Fail(batch, status);
    return;
  }
  if (std::exchange(batch.interrupted, true)) return;
  batch.why = status;
  interrupted_.emplace_back(&batch);
}

void AutoTransport::ChangeOverInterrupted() {
  while (true) {
    TicketRef<Batch> batch;
    {
      TicketLock lock(*this);
      if (interrupted_.empty()) return;
      batch = std::move(interrupted_.back());
      interrupted_.pop_back();
    }
    ChangeOver(*batch);
  }
}

void AutoTransport::ChangeOver(Batch& batch) {
  Leave(batch.why);
  // From here on nothing of it lands but what gRPC brings.
  first_->Reap(batch.on_way.ticket);
  std::vector<LayerRequest> layers;
  {
    TicketLock lock(*this);
    EndAllWrites(batch);
    batch.on_way = {};
    AskAgain(batch, &layers);
  }
  absl::StatusOr<Ticket> again = absl::CancelledError("the batch ended meanwhile");
  if (!layers.empty()) {
    again = fallback_->Submit({.layers = layers,
                               .deadline = batch.deadline(),
                               .sink = this,
                               .sink_tag = batch.ticket().number});
  }
  bool cancelled = false;
  {
    TicketLock lock(*this);
    if (again.ok()) {
      batch.on_way.ticket = *again;
    } else {
      EndAllWrites(batch);
      batch.on_way = {};
      Fail(batch, again.status());
    }
    batch.interrupted = false;
    cancelled = again.ok() && batch.state() == TicketState::kFailedLent;
    changed_.NotifyAll();
  }
  if (cancelled) fallback_->Cancel(*again);
}

// What has not landed; nothing where the batch has ended meanwhile.
void AutoTransport::AskAgain(Batch& batch, std::vector<LayerRequest>* layers) {
  if (!batch.in_flight()) return;
  ENGRAM_CHECK(MayAskAgain(batch), "a batch is asked for again that may still be written to");
  batch.asked.clear();
  for (size_t i = 0; i < batch.layers(); ++i) {
    if (batch.LayerLanded(i)) continue;
    batch.asked.push_back(i);
    layers->push_back(batch.layer_requests[i]);
  }
  batch.on_way.way = fallback_.get();
  BeginWrite(batch);
}

void AutoTransport::Leave(const absl::Status& status) {
  if (left_.exchange(true)) return;
  TicketLock lock(*this);
  why_ = absl::StrCat("left ", first_->capabilities().name, ": ", status.message());
}

void AutoTransport::TryCancel(TicketedBatch& batch) {
  WayTicket on_way;
  {
    TicketLock lock(*this);
    // One that changes over is cancelled when it has.
    auto& own = static_cast<Batch&>(batch);
    if (!own.interrupted) on_way = own.on_way;
  }
  if (on_way.way != nullptr) on_way.way->Cancel(on_way.ticket);
}

void AutoTransport::StopWriters(TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  WayTicket on_way;
  {
    TicketLock lock(*this);
    if (std::erase_if(interrupted_, [&](const auto& one) { return one == &own; }) > 0) {
      own.interrupted = false;
    }
    while (own.interrupted) changed_.Wait(mutex_);
    on_way = std::exchange(own.on_way, {});
  }
  if (on_way.way != nullptr) on_way.way->Reap(on_way.ticket);
  TicketLock lock(*this);
  EndAllWrites(own);
}

void AutoTransport::Forget(TicketedBatch& batch) {
  auto& own = static_cast<Batch&>(batch);
  if (own.on_way.way != nullptr) finished_.push_back(std::exchange(own.on_way, {}));
}

void AutoTransport::ReapFinished() {
  while (true) {
    WayTicket finished;
    {
      TicketLock lock(*this);
      if (finished_.empty()) return;
      finished = finished_.back();
      finished_.pop_back();
    }
    finished.way->Reap(finished.ticket);
  }
}

}  // namespace engram
