#include "client/transport/grpc/grpc_transport.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/grpc/grpc_attach.h"
#include "memstore/base/clock.h"
#include "memstore/base/status_macros.h"
#include "proto/rpc/grpc_time.h"

namespace engram {
namespace {

// What a reply holds beside its rows (ids, tags, lengths), generously.
constexpr uint64_t kReplyOverheadBytes = 64 << 10;
// Replies may have come while nobody drove the queue.
constexpr absl::Duration kQuiet = absl::Milliseconds(1);
// How long a batch without a deadline asks again where the server has no room.
constexpr absl::Duration kMaxRetryTime = absl::Seconds(10);
constexpr absl::Duration kUnaryRetryDelay = absl::Milliseconds(20);
// When a server names none: gRPC's own default for a message, and what fits a few hundred of them.
constexpr uint64_t kDefaultReplyBytes = 4 << 20;
constexpr uint64_t kDefaultBatchRows = 1 << 20;
// Whatever a server says, one row id and what stands around it fits.
constexpr uint64_t kMinMessageBytes = 4 << 10;

absl::Status CheckOptions(const GrpcOptions& options) {
  if (options.connections < 1 || options.connections > GrpcOptions::kMaxConnections ||
      options.streams < 1 || options.streams > GrpcOptions::kMaxStreams) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.connections, " connections of ", options.streams, " streams: 1 to ",
        GrpcOptions::kMaxConnections, " of 1 to ", GrpcOptions::kMaxStreams, " are possible"));
  }
  if (options.spin < absl::ZeroDuration() || options.spin > kMaxWaitSpin) {
    return absl::InvalidArgumentError(absl::StrCat("a client may spin for 0 to ",
                                                   absl::FormatDuration(kMaxWaitSpin), ", not for ",
                                                   absl::FormatDuration(options.spin)));
  }
  return absl::OkStatus();
}

GrpcPeer PeerOf(const GrpcAttachment& attachment, bool unary) {
  const GrpcOffer& offer = attachment.offer();
  const uint64_t reply_bytes =
      offer.max_unary_reply_bytes > 0 ? offer.max_unary_reply_bytes : kDefaultReplyBytes;
  const uint64_t request_bytes =
      offer.max_request_bytes > 0 ? offer.max_request_bytes : kDefaultReplyBytes;
  return {.address = attachment.address(),
          .table_set_id = attachment.table_set().manifest.id,
          .manifest = &attachment.table_set().manifest,
          .max_request_bytes = std::max(request_bytes, kMinMessageBytes),
          // Room for at least one row of the widest kind.
          .max_reply_bytes =
              unary ? std::max<uint64_t>(kMaxRowBytes,
                                         reply_bytes - std::min(reply_bytes, kReplyOverheadBytes))
                    : std::numeric_limits<uint64_t>::max()};
}

}  // namespace

struct GrpcTransport::Connection {
  Connection(std::shared_ptr<grpc::Channel> channel, const GrpcCredentials* credentials,
             grpc::CompletionQueue* queue, PartSink* sink, uint32_t stream_count)
      : stub(std::move(channel)), unary(&stub, credentials, queue, sink) {
    for (uint32_t i = 0; i < stream_count; ++i) {
      streams.emplace_back(&stub, credentials, queue, sink);
    }
  }
  RawStub stub;
  GrpcUnaryCalls unary;
  std::deque<GrpcStream> streams;
};

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const GrpcOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckOptions(options));
  ENGRAM_ASSIGN_OR_RETURN(
      std::shared_ptr<const GrpcAttachment> attachment,
      GrpcAttachment::Create(address, table_set,
                             {.timeout = options.timeout, .security = options.security}));
  return Create(std::move(attachment), options);
}

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Create(
    std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<GrpcTransport> transport(new GrpcTransport(std::move(attachment), options));
  ENGRAM_RETURN_IF_ERROR(transport->driver_.Start(options.spin));
  return std::unique_ptr<Transport>(std::move(transport));
}

GrpcTransport::GrpcTransport(std::shared_ptr<const GrpcAttachment> attachment,
                             const GrpcOptions& options)
    : attachment_(std::move(attachment)),
      capabilities_{.name = "grpc",
                    .lands_asynchronously = true,
                    .max_batch_rows = attachment_->offer().max_batch_rows > 0
                                          ? attachment_->offer().max_batch_rows
                                          : kDefaultBatchRows},
      unary_(options.unary),
      peer_(PeerOf(*attachment_, options.unary)) {
  PartSink* const sink = this;
  for (uint32_t i = 0; i < options.connections; ++i) {
    connections_.push_back(std::make_unique<Connection>(
        i == 0 ? attachment_->channel() : attachment_->OpenChannel(), &attachment_->credentials(),
        driver_.queue(), sink, options.streams));
  }
}

absl::Status GrpcTransport::WaitSuperseded(std::stop_token stop) {
  return attachment_->WaitSuperseded(std::move(stop));
}

GrpcTransport::~GrpcTransport() {
  for (const Ticket ticket : tickets_.OpenTickets()) GrpcTransport::Reap(ticket);
  {
    const std::lock_guard<std::mutex> lock(retries_mutex_);
    ending_ = true;
    for (const std::unique_ptr<Retry>& retry : retries_) retry->alarm.Cancel();
  }
  for (const std::unique_ptr<Connection>& connection : connections_) {
    connection->unary.End();
    for (GrpcStream& stream : connection->streams) stream.End();
  }
  driver_.Stop([this] { return Ended(); });
}

bool GrpcTransport::Ended() const {
  {
    const std::lock_guard<std::mutex> lock(retries_mutex_);
    if (!retries_.empty()) return false;
  }
  return std::all_of(connections_.begin(), connections_.end(), [](const auto& connection) {
    return connection->unary.Ended() &&
           std::all_of(connection->streams.begin(), connection->streams.end(),
                       [](const GrpcStream& stream) { return stream.Ended(); });
  });
}

void GrpcTransport::Send(const PartPointer& part) {
  const uint32_t turn = next_.fetch_add(1, std::memory_order_relaxed);
  Connection& connection = *connections_[turn % connections_.size()];
  if (unary_) {
    connection.unary.Send(part);
  } else {
    connection.streams[turn / connections_.size() % connection.streams.size()].Send(part);
  }
}

absl::StatusOr<Ticket> GrpcTransport::Submit(const BatchRequest& batch) {
  absl::Status status = CheckBatch(batch, *peer_.manifest, capabilities_.max_batch_rows);
  if (!status.ok()) return status;
  auto open = std::make_shared<Open>();
  open->batch = GrpcBatch::Create(peer_, batch, planner_);
  open->parts = open->batch->Cut();
  for (const PartPointer& part : open->parts) part->batch = open->batch;
  absl::StatusOr<Ticket> ticket = tickets_.Open(open);
  if (!ticket.ok()) return ticket;
  driver_.Begin(open->parts.size());
  // A stream that broke while nobody looked is found out before it is written to.
  if (RealClock().Now().nanoseconds() - last_reply_ns_.load() > absl::ToInt64Nanoseconds(kQuiet)) {
    driver_.TakeReady();
  }
  for (const PartPointer& part : open->parts) Send(part);
  return ticket;
}

TicketState GrpcTransport::Poll(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Find(ticket);
  if (open == nullptr) return TicketState::kReaped;
  if (open->batch->state() == TicketState::kInFlight) driver_.TakeReady();
  if (open->batch->deadline() <= RealClock().Now()) Fail(*open, Late());
  return open->batch->state();
}

absl::Status GrpcTransport::Late() const {
  return absl::DeadlineExceededError(
      absl::StrCat("engramd at ", peer_.address, " did not answer by the batch's deadline"));
}

absl::Status GrpcTransport::WaitUntil(Ticket ticket,
                                      absl::FunctionRef<bool(const GrpcBatch&)> done) {
  const std::shared_ptr<Open> open = tickets_.Find(ticket);
  if (open == nullptr) {
    return absl::FailedPreconditionError("the ticket was reaped, or never given out");
  }
  const GrpcBatch& batch = *open->batch;
  if (!driver_.DriveUntil([&] { return done(batch); }, batch.deadline())) Fail(*open, Late());
  return batch.state() == TicketState::kFailedLent ? batch.status() : absl::OkStatus();
}

absl::Status GrpcTransport::Wait(Ticket ticket) {
  return WaitUntil(ticket,
                   [](const GrpcBatch& batch) { return batch.state() != TicketState::kInFlight; });
}

absl::Status GrpcTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntil(ticket, [index](const GrpcBatch& batch) { return batch.LayerSettled(index); });
}

void GrpcTransport::Fail(Open& open, absl::Status status) {
  if (open.batch->Fail(std::move(status))) CancelParts(open);
}

void GrpcTransport::CancelParts(Open& open) {
  // Its parts are finished when the server has answered that they are: until then somebody takes
  // their events, or the wish to cancel might never leave.
  for (const PartPointer& part : open.parts) {
    for (const std::unique_ptr<Connection>& connection : connections_) {
      if (unary_ && connection->unary.Cancel(part)) driver_.Finish();
      for (GrpcStream& stream : connection->streams) stream.Cancel(part);
    }
  }
  driver_.Kick();
}

void GrpcTransport::Cancel(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Find(ticket);
  if (open != nullptr) Fail(*open, absl::CancelledError("the batch was cancelled"));
}

void GrpcTransport::Reap(Ticket ticket) {
  const std::shared_ptr<Open> open = tickets_.Close(ticket);
  if (open == nullptr) return;
  // After Fail returns no row is copied any more: both hold the batch's lock.
  open->batch->Fail(absl::CancelledError("the batch was reaped"));
  // Those of a batch that failed by itself, too: one part did, the others may be under way.
  if (open->batch->state() != TicketState::kLanded) CancelParts(*open);
}

void GrpcTransport::OnReply(const PartPointer& part, absl::Span<const wire::Bytes> chain,
                            const wire::LookupResponse& reply, bool ended) {
  last_reply_ns_.store(RealClock().Now().nanoseconds(), std::memory_order_relaxed);
  if (reply.code == 0) {
    part->batch->Land(*part, chain, reply, ended);
    if (ended) driver_.Finish();
    return;
  }
  if (reply.retry_after_ms > 0 && part->batch->MayRestart(*part)) {
    SendLater(part, absl::Milliseconds(reply.retry_after_ms));
    return;
  }
  FailPart(part,
           FromGrpc({static_cast<grpc::StatusCode>(reply.code), reply.message}, peer_.address));
}

void GrpcTransport::OnGone(const PartPointer& part, const grpc::Status& status, bool had_answered) {
  // CANCELLED: by the server, which ends a call that takes nothing while others want the memory.
  const bool broke = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                     status.error_code() == grpc::StatusCode::CANCELLED;
  if (had_answered && broke && !part->sent_again && part->batch->MayRestart(*part)) {
    part->sent_again = true;
    Send(part);
    return;
  }
  // With details the server says that it is a matter of time.
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
      !status.error_details().empty() && part->batch->MayRestart(*part)) {
    SendLater(part, kUnaryRetryDelay);
    return;
  }
  FailPart(part, FromGrpc(status, peer_.address));
}

void GrpcTransport::FailPart(const PartPointer& part, absl::Status status) {
  part->batch->Fail(std::move(status));
  driver_.Finish();
}

void GrpcTransport::SendLater(const PartPointer& part, absl::Duration delay) {
  const MonotonicTime at = RealClock().Now() + delay;
  const MonotonicTime deadline = part->batch->deadline();
  const MonotonicTime end =
      deadline == MonotonicTime::Infinite() ? part->batch->begin() + kMaxRetryTime : deadline;
  if (at < end) {
    auto retry = std::make_unique<Retry>();
    retry->transport = this;
    retry->part = part;
    const std::lock_guard<std::mutex> lock(retries_mutex_);
    if (!ending_) {
      retry->alarm.Set(driver_.queue(),
                       rpc::After(absl::ToChronoNanoseconds(at - RealClock().Now())), retry->tag());
      retries_.push_back(std::move(retry));
      return;
    }
  }
  FailPart(part, absl::ResourceExhaustedError(
                     absl::StrCat("engramd at ", peer_.address,
                                  " had no room for the batch for as long as it could wait: send "
                                  "less at a time, or give it a later deadline")));
}

void GrpcTransport::OnRetry(Retry* retry, bool ok) {
  std::unique_ptr<Retry> over;
  {
    const std::lock_guard<std::mutex> lock(retries_mutex_);
    const auto at = std::find_if(retries_.begin(), retries_.end(),
                                 [&](const auto& one) { return one.get() == retry; });
    over = std::move(*at);
    retries_.erase(at);
    ok = ok && !ending_;
  }
  if (ok && over->part->batch->state() == TicketState::kInFlight) {
    Send(over->part);
  } else {
    driver_.Finish();
  }
}

}  // namespace engram
