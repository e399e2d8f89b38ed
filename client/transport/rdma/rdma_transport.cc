#include "client/transport/rdma/rdma_transport.h"

#include <poll.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/grpc/grpc_attach.h"
#include "client/transport/grpc/grpc_watch.h"
#include "client/transport/rdma/rdma_read_transport.h"
#include "memstore/base/clock.h"

namespace engram {
namespace {

// How long a sleeper goes without looking at its deadline, at cancellation, at the lease.
constexpr absl::Duration kSleep = absl::Milliseconds(50);
// What Reap gives the owner to answer for a batch that failed, before it moves the queue pair to
// error; the rest of kReapTime is for that.
constexpr absl::Duration kReapPatience = absl::Milliseconds(500);
// The owner says on the lease why it broke a queue pair, a moment after it did.
constexpr absl::Duration kReasonTime = absl::Milliseconds(400);
constexpr absl::Duration kReconnectPause = absl::Milliseconds(250);
constexpr absl::Duration kReconnectTime = absl::Seconds(5);
// A batch that is only polled waits this long for somebody to open another connection.
constexpr absl::Duration kOrphanTime = absl::Seconds(1);
// Batches kept to be used again: more than a worker has open as a rule.
constexpr size_t kSpareBatches = 16;
constexpr size_t kPollBatch = 16;

}  // namespace

absl::StatusOr<RdmaAttachment> AttachRdma(const std::string& address, const std::string& table_set,
                                          const RdmaOptions& options) {
  const MonotonicTime deadline = RealClock().Now() + options.timeout;
  if (options.spin < absl::ZeroDuration() || options.spin > kMaxWaitSpin) {
    return absl::InvalidArgumentError(absl::StrCat("a spin of ", absl::FormatDuration(options.spin),
                                                   ": at most ",
                                                   absl::FormatDuration(kMaxWaitSpin)));
  }
  RdmaAttachment attachment;
  RdmaRoute& route = attachment.route;
  route.address = address;
  route.reads = options.reads;
  absl::StatusOr<std::shared_ptr<const GrpcCredentials>> credentials =
      GrpcCredentials::Create(options.security, address);
  if (!credentials.ok()) return credentials.status();
  route.credentials = *std::move(credentials);
  route.channel = OpenChannel(address, *route.credentials);
  const std::unique_ptr<v1::Lookup::Stub> stub = v1::Lookup::NewStub(route.channel);
  const absl::StatusOr<v1::AttachResponse> response =
      CallAttach(stub.get(), *route.credentials, address, table_set, options.timeout);
  if (!response.ok()) return response.status();
  absl::StatusOr<AttachedTableSet> attached = CheckAttached(*response, table_set, address);
  if (!attached.ok()) return attached.status();
  attachment.attached = *std::move(attached);
  route.set_id = attachment.attached.manifest.id;
  absl::StatusOr<std::unique_ptr<RdmaLease>> lease =
      RdmaLease::Open(route.channel, *route.credentials, address, route.set_id, route.reads,
                      std::max(deadline, RealClock().Now() + absl::Seconds(1)));
  if (!lease.ok()) return lease.status();
  auto chosen = ChooseRdmaDevice((*lease)->offer(), options.device);
  if (!chosen.ok()) return chosen.status();
  absl::StatusOr<std::shared_ptr<RdmaDomain>> domain = RdmaDomain::Create(chosen->first);
  if (!domain.ok()) return domain.status();
  route.domain = *std::move(domain);
  route.port = chosen->second;
  attachment.spin = options.spin;
  attachment.resend = options.resend;
  attachment.max_batch_rows = (*lease)->offer().max_batch_rows();
  auto connection = RdmaConnection::Connect(route, *std::move(lease));
  if (!connection.ok()) return connection.status();
  attachment.connection = *std::move(connection);
  return attachment;
}

absl::StatusOr<std::unique_ptr<Transport>> RdmaTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const RdmaOptions& options) {
  absl::StatusOr<RdmaAttachment> attachment = AttachRdma(address, table_set, options);
  if (!attachment.ok()) return attachment.status();
  if (options.reads) return RdmaReadTransport::Create(*std::move(attachment));
  return std::unique_ptr<Transport>(std::make_unique<RdmaTransport>(*std::move(attachment)));
}

RdmaTransport::RdmaTransport(RdmaAttachment attachment)
    : RdmaTransport(std::move(attachment), "rdma") {}

RdmaTransport::RdmaTransport(RdmaAttachment attachment, absl::string_view name)
    : attached_(std::move(attachment.attached)),
      route_(std::move(attachment.route)),
      capabilities_{.name = name,
                    .lands_asynchronously = true,
                    .max_batch_rows = attachment.max_batch_rows,
                    .max_sequence_tokens = route_.reads ? uint32_t{0} : kRdmaRequestTokens},
      spin_(attachment.spin),
      resend_(attachment.resend),
      windows_(route_.domain, route_.reads),
      connection_(std::move(attachment.connection)) {
  for (uint32_t i = kRdmaCredits; i > 0; --i) free_slots_.push_back(static_cast<uint8_t>(i - 1));
  queue_.reserve(kMaxOpenTickets);
  spare_.reserve(kSpareBatches);
}

absl::Status RdmaTransport::WaitSuperseded(std::stop_token stop) {
  return WatchUntilSuperseded(route_.channel, *route_.credentials, attached_.manifest,
                              std::move(stop));
}

RdmaTransport::~RdmaTransport() { Shut(); }

void RdmaTransport::Shut() {
  // Nothing lands after it, so no ticket has to be waited for.
  const std::lock_guard<std::mutex> lock(mutex_);
  if (broken_.ok()) Break(absl::CancelledError("the client was destroyed"));
}

absl::Status RdmaTransport::Register(absl::Span<std::byte> buffer) {
  std::shared_ptr<RdmaConnection> connection;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    connection = connection_;
  }
  return windows_.Register(buffer, connection == nullptr ? nullptr : &connection->lease());
}

absl::Status RdmaTransport::Unregister(absl::Span<std::byte> buffer) {
  std::shared_ptr<RdmaConnection> connection;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    connection = connection_;
  }
  return windows_.Unregister(buffer, connection == nullptr ? nullptr : &connection->lease());
}

absl::Status RdmaTransport::RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer) {
  std::shared_ptr<RdmaConnection> connection;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    connection = connection_;
  }
  return windows_.RegisterDmabuf(fd, offset, buffer,
                                 connection == nullptr ? nullptr : &connection->lease());
}

std::shared_ptr<RdmaBatch> RdmaTransport::Spare() {
  if (spare_.empty()) return std::make_shared<RdmaBatch>();
  std::shared_ptr<RdmaBatch> batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

absl::StatusOr<Ticket> RdmaTransport::Submit(const BatchRequest& request) {
  absl::Status status = CheckBatch(request, attached_.manifest, capabilities_.max_batch_rows,
                                   capabilities_.max_sequence_tokens);
  if (!status.ok()) return status;
  std::unique_lock<std::mutex> lock(mutex_);
  // A connection that broke while nobody looked is found out now.
  Advance();
  if (!broken_.ok()) {
    if (status = Reconnect(lock, request.deadline); !status.ok()) return status;
  }
  std::shared_ptr<RdmaBatch> batch = Spare();
  if (status = batch->Take(request, attached_.manifest, windows_); !status.ok()) return status;
  batch->number = ++batches_;
  absl::StatusOr<Ticket> ticket = tickets_.Open(batch);
  if (!ticket.ok()) return ticket;
  queue_.push_back(std::move(batch));
  SendRequests();
  return ticket;
}

// Opens another connection, one thread at a time and not too often.
absl::Status RdmaTransport::Reconnect(std::unique_lock<std::mutex>& lock, MonotonicTime deadline) {
  if (reconnecting_ || RealClock().Now() < next_try_) return broken_;
  reconnecting_ = true;
  lock.unlock();
  const auto open = [&]() -> absl::StatusOr<std::unique_ptr<RdmaConnection>> {
    auto lease =
        RdmaLease::Open(route_.channel, *route_.credentials, route_.address, route_.set_id,
                        route_.reads, std::min(deadline, RealClock().Now() + kReconnectTime));
    if (!lease.ok()) return lease.status();
    auto connection = RdmaConnection::Connect(route_, *std::move(lease));
    if (!connection.ok()) return connection.status();
    absl::Status declared = windows_.DeclareAll((*connection)->lease());
    if (!declared.ok()) return declared;
    return connection;
  };
  auto connection = open();
  lock.lock();
  reconnecting_ = false;
  next_try_ = RealClock().Now() + kReconnectPause;
  if (!connection.ok()) {
    FailQueue(absl::UnavailableError(absl::StrCat(
        broken_.message(), "; and no other can be opened: ", connection.status().message())));
    broken_ = connection.status();
    changed_.notify_all();
    return broken_;
  }
  connection_ = *std::move(connection);
  suspected_ = broken_ = absl::OkStatus();
  absl::Status status = OnConnected();
  if (status.ok()) {
    SendRequests();
  } else {
    Break(status);
  }
  changed_.notify_all();
  return status;
}

void RdmaTransport::Advance() {
  if (!broken_.ok()) return;
  std::array<ibv_wc, kPollBatch> completions;
  while (suspected_.ok()) {
    const int count = connection_->completions().Poll(absl::MakeSpan(completions));
    if (count < 0) Suspect(absl::UnavailableError("the completion queue is broken"));
    if (count <= 0) break;
    connection_->counts().completions += static_cast<uint64_t>(count);
    for (int i = 0; i < count && suspected_.ok() && broken_.ok(); ++i) {
      TakeCompletion(completions[i]);
    }
  }
  if (!broken_.ok()) return;
  if (connection_->lease().ended()) {
    absl::Status end = connection_->lease().End();
    // That the call is over says less than why the queue pair broke.
    const bool bare = absl::IsUnavailable(end) || absl::IsCancelled(end);
    return Break(suspected_.ok() || !bare ? end : suspected_);
  }
  if (!suspected_.ok() && RealClock().Now() - suspected_at_ > kReasonTime) return Break(suspected_);
  if (suspected_.ok()) SendRequests();
}

void RdmaTransport::Suspect(absl::Status status) {
  if (!suspected_.ok()) return;
  suspected_ = std::move(status);
  suspected_at_ = RealClock().Now();
}

void RdmaTransport::TakeCompletion(const ibv_wc& completion) {
  if (completion.status != IBV_WC_SUCCESS) {
    return Suspect(
        absl::UnavailableError(absl::StrCat("the RDMA connection to engramd at ", route_.address,
                                            " broke: ", RdmaFailure(completion))));
  }
  TakeSuccess(completion);
}

void RdmaTransport::TakeSuccess(const ibv_wc& completion) {
  if ((completion.wr_id & RdmaConnection::kSent) != 0) {
    return connection_->OnSent(completion.wr_id);
  }
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) {
    TakeImmediate(be32toh(completion.imm_data));
  } else {
    TakeRefusal(connection_->Received(completion.wr_id, completion.byte_len));
  }
  if (!suspected_.ok()) return;
  if (absl::Status status = connection_->PostReceive(completion.wr_id); !status.ok()) {
    Suspect(std::move(status));
  }
}

RdmaTransport::Slot* RdmaTransport::FindSlot(RdmaTag tag) {
  if (tag.slot < slots_.size()) {
    Slot& slot = slots_[tag.slot];
    if (slot.batch != nullptr && slot.generation == tag.generation) return &slot;
  }
  Suspect(absl::InternalError("the owner answered a request that is not under way: attach again"));
  return nullptr;
}

void RdmaTransport::TakeImmediate(uint32_t immediate) {
  Slot* const slot = FindSlot(RdmaTagOf(immediate));
  if (slot == nullptr) return;
  const uint8_t layer = RdmaLayerOf(immediate);
  const uint32_t all = (uint32_t{1} << slot->request.layers) - 1;
  const uint32_t landed = layer == kRdmaAllLayers ? all : (uint32_t{1} << (layer % 32)) & all;
  if (landed == 0 || (slot->answered & landed) != 0) {
    return Suspect(absl::InternalError("the owner answered a layer that is not asked for"));
  }
  slot->answered |= landed;
  for (uint32_t i = 0; i < slot->request.layers; ++i) {
    if ((landed >> i & 1) != 0) slot->batch->Land(slot->request.pieces[i]);
  }
  if (slot->answered == all) Answered(*slot);
}

void RdmaTransport::TakeRefusal(absl::Span<const std::byte> bytes) {
  uint32_t tag = 0;
  absl::Status status = ReadRdmaRefusal(bytes, &tag);
  Slot* const slot = FindSlot(RdmaTagOf(tag));
  if (slot == nullptr) return;
  Fail(*slot->batch, std::move(status));
  Answered(*slot);
}

// The credit is back; the owner writes no more for this request.
void RdmaTransport::Answered(Slot& slot) {
  const std::shared_ptr<RdmaBatch> batch = std::exchange(slot.batch, nullptr);
  free_slots_.push_back(static_cast<uint8_t>(&slot - slots_.data()));
  --batch->requests_out;
  if (batch->AllLanded() && batch->state == TicketState::kInFlight) {
    batch->state = TicketState::kLanded;
  }
}

std::shared_ptr<RdmaBatch> RdmaTransport::NextToSend() {
  while (!queue_.empty()) {
    const std::shared_ptr<RdmaBatch>& batch = queue_.front();
    if (batch->state == TicketState::kInFlight && !batch->AllWritten()) return batch;
    queue_.erase(queue_.begin());
  }
  return nullptr;
}

void RdmaTransport::SendRequests() {
  while (!free_slots_.empty() && connection_->MaySend()) {
    const std::shared_ptr<RdmaBatch> batch = NextToSend();
    if (batch == nullptr) return;
    const uint8_t number = free_slots_.back();
    Slot& slot = slots_[number];
    ++slot.generation;
    slot.request = batch->WriteNext({number, slot.generation}, connection_->request(number));
    slot.answered = 0;
    const absl::Status status = connection_->SendRequest(number, slot.request.bytes);
    if (!status.ok()) return Suspect(status);
    free_slots_.pop_back();
    slot.batch = batch;
    ++batch->requests_out;
  }
}

void RdmaTransport::Fail(RdmaBatch& batch, absl::Status status) {
  if (batch.state != TicketState::kInFlight) return;
  batch.state = TicketState::kFailedLent;
  batch.status = std::move(status);
}

// From its return on nothing lands. What was under way waits for another connection, or has failed.
void RdmaTransport::Break(absl::Status status) {
  connection_->Close();
  connection_.reset();
  broken_ = std::move(status);
  broken_at_ = next_try_ = RealClock().Now();
  suspected_ = absl::OkStatus();
  interrupted_.clear();
  ForgetRequests();
  for (const std::shared_ptr<RdmaBatch>& batch : queue_) Interrupted(batch);
  queue_.clear();
  for (const std::shared_ptr<RdmaBatch>& batch : interrupted_) {
    if (resend_ && absl::IsUnavailable(broken_) && batch->MayRestart()) {
      queue_.push_back(batch);
    } else {
      Fail(*batch, broken_);
    }
  }
  interrupted_.clear();
  std::sort(queue_.begin(), queue_.end(),
            [](const auto& a, const auto& b) { return a->number < b->number; });
  changed_.notify_all();
}

// A batch may have been interrupted in several requests.
void RdmaTransport::Interrupted(std::shared_ptr<RdmaBatch> batch) {
  batch->requests_out = 0;
  if (std::find(interrupted_.begin(), interrupted_.end(), batch) == interrupted_.end()) {
    interrupted_.push_back(std::move(batch));
  }
}

void RdmaTransport::ForgetRequests() {
  free_slots_.clear();
  for (uint32_t i = kRdmaCredits; i > 0; --i) {
    if (slots_[i - 1].batch != nullptr) Interrupted(std::exchange(slots_[i - 1].batch, nullptr));
    free_slots_.push_back(static_cast<uint8_t>(i - 1));
  }
}

void RdmaTransport::FailQueue(const absl::Status& status) {
  for (const std::shared_ptr<RdmaBatch>& batch : queue_) Fail(*batch, status);
  queue_.clear();
}

TicketState RdmaTransport::Poll(Ticket ticket) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
  if (batch == nullptr) return TicketState::kReaped;
  Advance();
  if (!broken_.ok() && !reconnecting_ && RealClock().Now() - broken_at_ > kOrphanTime) {
    Fail(*batch, broken_);
  }
  FailLate(*batch);
  return batch->state;
}

void RdmaTransport::FailLate(RdmaBatch& batch) {
  if (batch.deadline > RealClock().Now()) return;
  Fail(batch, absl::DeadlineExceededError("the deadline passed before every row had landed"));
}

absl::Status RdmaTransport::Wait(Ticket ticket) { return WaitUntil(ticket, SIZE_MAX); }

absl::Status RdmaTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntil(ticket, index);
}

// Until the layer that stands at `index` has landed, or with SIZE_MAX all have.
absl::Status RdmaTransport::WaitUntil(Ticket ticket, size_t index) {
  std::unique_lock<std::mutex> lock(mutex_);
  MonotonicTime spin_until = RealClock().Now() + spin_;
  while (true) {
    const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
    if (batch == nullptr) {
      return absl::FailedPreconditionError("the ticket was reaped, or never given out");
    }
    Advance();
    if (index < batch->parts() && batch->HasLanded(index)) return absl::OkStatus();
    FailLate(*batch);
    if (batch->state == TicketState::kLanded) return absl::OkStatus();
    if (batch->state == TicketState::kFailedLent) return batch->status;
    // It waits for another connection; where one can't be had, it has failed.
    if (!broken_.ok() && Reconnect(lock, batch->deadline).ok()) continue;
    const MonotonicTime now = RealClock().Now();
    if (broken_.ok() && now < spin_until) {
      lock.unlock();
      __builtin_ia32_pause();
      lock.lock();
    } else {
      Sleep(lock, std::min(batch->deadline, now + kSleep));
      spin_until = RealClock().Now() + spin_;
    }
  }
}

// Until something may have completed. One sleeps on the channel, the others on that one.
void RdmaTransport::Sleep(std::unique_lock<std::mutex>& lock, MonotonicTime until) {
  if (somebody_sleeps_ || connection_ == nullptr || !suspected_.ok()) {
    changed_.wait_for(
        lock, absl::ToChronoNanoseconds(std::clamp(until - RealClock().Now(), absl::ZeroDuration(),
                                                   absl::Milliseconds(5))));
    return;
  }
  const std::shared_ptr<RdmaConnection> connection = connection_;
  if (!connection->completions().Arm()) return;
  // What came before it was armed makes no event.
  const uint64_t before = connection->counts().completions;
  Advance();
  if (connection_ != connection || connection->counts().completions != before) return;
  somebody_sleeps_ = true;
  lock.unlock();
  pollfd wait{connection->channel().fd(), POLLIN, 0};
  const auto left = std::clamp(until - RealClock().Now(), absl::ZeroDuration(), kSleep);
  const timespec time = absl::ToTimespec(left);
  ppoll(&wait, 1, &time, nullptr);
  connection->channel().TakeEvents();
  lock.lock();
  somebody_sleeps_ = false;
  Advance();
  changed_.notify_all();
}

void RdmaTransport::Cancel(Ticket ticket) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
  if (batch == nullptr || batch->state != TicketState::kInFlight) return;
  Fail(*batch, absl::CancelledError("the batch was cancelled"));
  changed_.notify_all();
}

void RdmaTransport::Reap(Ticket ticket) {
  std::unique_lock<std::mutex> lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Close(ticket);
  if (batch == nullptr) return;
  if (batch->state == TicketState::kInFlight) {
    Fail(*batch, absl::CancelledError("the batch was reaped"));
  }
  const MonotonicTime patience = RealClock().Now() + kReapPatience;
  while (batch->requests_out > 0) {
    Advance();
    if (batch->requests_out == 0) break;
    if (RealClock().Now() >= patience) {
      Break(absl::UnavailableError(
          absl::StrCat("engramd at ", route_.address,
                       " did not answer for a batch that was reaped, so its connection was cut")));
      break;
    }
    Sleep(lock, patience);
  }
  batch->state = TicketState::kReaped;
  LetGo(batch);
}

void RdmaTransport::LetGo(std::shared_ptr<RdmaBatch> batch) {
  queue_.erase(std::remove(queue_.begin(), queue_.end(), batch), queue_.end());
  if (spare_.size() < kSpareBatches) spare_.push_back(std::move(batch));
}

RdmaCounts RdmaTransport::Counts() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return connection_ == nullptr ? RdmaCounts{} : connection_->counts();
}

void RdmaTransport::BreakForTest() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (connection_ == nullptr) return;
  ibv_qp_attr to{};
  to.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(connection_->pair(), &to, IBV_QP_STATE);
}

}  // namespace engram
