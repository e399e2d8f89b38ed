#include "client/transport/auto/auto_transport.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/transport/grpc/grpc_attach.h"
#include "client/transport/grpc/grpc_transport.h"
#include "client/transport/rdma/rdma_transport.h"
#include "client/transport/rdma/rdma_windows.h"
#include "client/transport/shm/shm_transport.h"

namespace engram {
namespace {

// A socket that is here answers at once; the owner has been seen to be there.
constexpr absl::Duration kLocalTime = absl::Milliseconds(500);
constexpr absl::Duration kRdmaTime = absl::Seconds(5);

// The first way that there is, null when there is none; `*why` says why not the others.
std::unique_ptr<Transport> FirstWay(const std::string& address, const std::string& set_id,
                                    const std::string& shm_socket, const AutoOptions& options,
                                    std::string* why) {
  if (shm_socket.empty()) {
    *why = "no shm: the owner offers none";
  } else {
    // The set's id says what its rows are, so any owner of it will do.
    auto shm = ShmTransport::Attach(shm_socket, set_id, kLocalTime, "");
    if (shm.ok()) return *std::move(shm);
    *why = absl::StrCat("no shm: ", shm.status().message());
  }
  auto rdma = RdmaTransport::Attach(address, set_id,
                                    {.timeout = std::min(options.timeout, kRdmaTime),
                                     .device = options.device,
                                     .reads = false,
                                     .resend = false,  // gRPC takes what a connection dropped
                                     .spin = options.spin,
                                     .security = options.security});
  if (rdma.ok()) return *std::move(rdma);
  absl::StrAppend(why, "; no rdma: ", rdma.status().message());
  return nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> AutoTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const AutoOptions& options) {
  const GrpcOptions grpc_options = {
      .timeout = options.timeout, .spin = options.spin, .security = options.security};
  auto grpc = GrpcTransport::Attach(address, table_set, grpc_options);
  if (!grpc.ok()) return grpc.status();
  const absl::StatusOr<std::shared_ptr<const GrpcCredentials>> credentials =
      GrpcCredentials::Create(options.security, address);
  if (!credentials.ok()) return credentials.status();
  const std::string id = (*grpc)->table_set().manifest.id;
  const std::unique_ptr<v1::Lookup::Stub> stub =
      v1::Lookup::NewStub(OpenChannel(address, **credentials));
  const absl::StatusOr<v1::AttachResponse> response =
      CallAttach(stub.get(), **credentials, address, id, options.timeout);
  if (!response.ok()) return response.status();
  std::string why;
  auto first = FirstWay(address, id, response->shm_socket(), options, &why);
  return std::unique_ptr<Transport>(
      std::make_unique<AutoTransport>(std::move(first), *std::move(grpc), std::move(why)));
}

AutoTransport::AutoTransport(std::unique_ptr<Transport> first, std::unique_ptr<Transport> fallback,
                             std::string why)
    : first_(std::move(first)),
      fallback_(std::move(fallback)),
      capabilities_{.name = "auto",
                    .lands_asynchronously = true,
                    .max_batch_rows = std::min(
                        fallback_->capabilities().max_batch_rows,
                        (first_ != nullptr ? first_ : fallback_)->capabilities().max_batch_rows)},
      why_(std::move(why)) {
  left_.store(first_ == nullptr);
  spare_.reserve(kSpareBatches);
}

AutoTransport::~AutoTransport() {
  for (const Ticket ticket : tickets_.OpenTickets()) AutoTransport::Reap(ticket);
}

std::string AutoTransport::Describe() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const Transport& way = left_.load() ? *fallback_ : *first_;
  return absl::StrCat("auto took ", way.capabilities().name, why_.empty() ? "" : " (", why_,
                      why_.empty() ? "" : ")");
}

absl::Status AutoTransport::Register(absl::Span<std::byte> buffer) {
  absl::Status status = fallback_->Register(buffer);
  if (!status.ok() || first_ == nullptr) return status;
  status = first_->Register(buffer);
  // A way that is broken is left at the next batch.
  return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

absl::Status AutoTransport::Unregister(absl::Span<std::byte> buffer) {
  absl::Status status = fallback_->Unregister(buffer);
  if (!status.ok() || first_ == nullptr) return status;
  return first_->Unregister(buffer);
}

std::shared_ptr<AutoTransport::Open> AutoTransport::Spare() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (spare_.empty()) return std::make_shared<Open>();
  std::shared_ptr<Open> open = std::move(spare_.back());
  spare_.pop_back();
  return open;
}

void AutoTransport::Remember(const BatchRequest& batch, Open* open) const {
  open->deadline = batch.deadline;
  open->cancelled = false;
  open->failed = absl::OkStatus();
  open->layers.assign(batch.layers.begin(), batch.layers.end());
  if (open->ids.size() < batch.layers.size()) open->ids.resize(batch.layers.size());
  for (size_t i = 0; i < batch.layers.size(); ++i) {
    open->ids[i].assign(batch.layers[i].row_ids.begin(), batch.layers[i].row_ids.end());
    open->layers[i].row_ids = open->ids[i];
  }
}

absl::StatusOr<Ticket> AutoTransport::Submit(const BatchRequest& batch) {
  // What has to be asked for again elsewhere is kept as row ids.
  if (batch.tokens != nullptr) {
    return absl::UnimplementedError("auto takes row ids: Client::SubmitTokens works them out");
  }
  if (!left_.load()) {
    const absl::StatusOr<Ticket> ticket = first_->Submit(batch);
    if (ticket.ok()) {
      std::shared_ptr<Open> open = Spare();
      // What has landed by now is not asked for again.
      if (first_->capabilities().lands_asynchronously) Remember(batch, open.get());
      open->way = first_.get();
      open->ticket = *ticket;
      absl::StatusOr<Ticket> own = tickets_.Open(std::move(open));
      if (!own.ok()) first_->Reap(*ticket);
      return own;
    }
    // gRPC lands in any memory.
    const bool unregistered = IsUnregistered(ticket.status());
    if (!unregistered && !absl::IsUnavailable(ticket.status())) return ticket;
    if (!unregistered) Leave(ticket.status());
  }
  const absl::StatusOr<Ticket> ticket = fallback_->Submit(batch);
  if (!ticket.ok()) return ticket;
  std::shared_ptr<Open> open = Spare();
  open->deadline = batch.deadline;
  open->cancelled = false;
  open->failed = absl::OkStatus();
  open->way = fallback_.get();
  open->ticket = *ticket;
  absl::StatusOr<Ticket> own = tickets_.Open(std::move(open));
  if (!own.ok()) fallback_->Reap(*ticket);
  return own;
}

void AutoTransport::Leave(const absl::Status& status) {
  if (left_.exchange(true)) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  why_ = absl::StrCat("left ", first_->capabilities().name, ": ", status.message());
}

bool AutoTransport::ChangeOver(Open& open, const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return false;
  Leave(status);
  const std::lock_guard<std::mutex> lock(open.mutex);
  if (open.way != first_.get()) return false;
  if (open.cancelled) return false;
  // From here on nothing of it lands but what gRPC brings.
  first_->Reap(open.ticket);
  open.way = fallback_.get();
  const absl::StatusOr<Ticket> again =
      fallback_->Submit({.layers = open.layers, .deadline = open.deadline});
  open.ticket = again.ok() ? *again : Ticket{};
  open.failed = again.status();
  return again.ok();
}

TicketState AutoTransport::Poll(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Find(ticket);
  if (open == nullptr) return TicketState::kReaped;
  Transport* way = nullptr;
  Ticket on_way;
  {
    const std::lock_guard<std::mutex> lock(open->mutex);
    if (!open->failed.ok()) return TicketState::kFailedLent;
    way = open->way;
    on_way = open->ticket;
  }
  const TicketState state = way->Poll(on_way);
  if (state != TicketState::kFailedLent || way == fallback_.get()) {
    // It changed over meanwhile.
    return state == TicketState::kReaped ? TicketState::kInFlight : state;
  }
  return ChangeOver(*open, way->Wait(on_way)) ? TicketState::kInFlight : TicketState::kFailedLent;
}

absl::Status AutoTransport::Wait(Ticket ticket) { return WaitFor(ticket, SIZE_MAX); }

absl::Status AutoTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitFor(ticket, index);
}

absl::Status AutoTransport::WaitFor(Ticket ticket, size_t index) {
  while (true) {
    const std::shared_ptr<Open> open = tickets_.Find(ticket);
    if (open == nullptr) {
      return absl::FailedPreconditionError("the ticket was reaped, or never given out");
    }
    Transport* way = nullptr;
    Ticket on_way;
    {
      const std::lock_guard<std::mutex> lock(open->mutex);
      if (!open->failed.ok()) return open->failed;
      way = open->way;
      on_way = open->ticket;
    }
    absl::Status status = index == SIZE_MAX ? way->Wait(on_way) : way->WaitLayer(on_way, index);
    if (status.ok() || way == fallback_.get()) return status;
    const bool changed = ChangeOver(*open, status);
    const std::lock_guard<std::mutex> lock(open->mutex);
    // Another thread may have changed it over.
    if (!changed && open->way == way) return status;
  }
}

void AutoTransport::Cancel(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Find(ticket);
  if (open == nullptr) return;
  const std::lock_guard<std::mutex> lock(open->mutex);
  open->cancelled = true;
  open->way->Cancel(open->ticket);
}

void AutoTransport::Reap(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Close(ticket);
  if (open == nullptr) return;
  {
    const std::lock_guard<std::mutex> lock(open->mutex);
    open->way->Reap(open->ticket);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  // Another holder may still look at it.
  if (spare_.size() < kSpareBatches && open.use_count() == 1) spare_.push_back(open);
}

}  // namespace engram
