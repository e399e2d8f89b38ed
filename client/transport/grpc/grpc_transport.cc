#include "client/transport/grpc/grpc_transport.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/failure_mark.h"
#include "client/transport/grpc/grpc_channel.h"
#include "client/transport/grpc/grpc_stream.h"
#include "client/transport/grpc/grpc_unary_calls.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// What a reply holds beside its rows (ids, tags, lengths), generously.
constexpr uint64_t kReplyOverheadBytes = 64 << 10;
// Replies may have come while nobody drove the queue.
constexpr absl::Duration kQuiet = absl::Milliseconds(1);
// How long a batch without a deadline asks again where the server has no room.
constexpr absl::Duration kMaxRetryTime = absl::Seconds(10);
// A batch that is late while it is being submitted is ended this much later.
constexpr absl::Duration kLookAgain = absl::Milliseconds(1);
constexpr absl::Duration kUnaryRetryDelay = absl::Milliseconds(20);
// Longer than gRPC waits between two tries (kMaxReconnectBackoffMs), so that it says when.
constexpr absl::Duration kConnectAgain = absl::Milliseconds(500);
// After the last request that found nobody there.
constexpr absl::Duration kConnectTime = absl::Seconds(5);
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

// 0: the owner is asked by row ids.
uint32_t MaxSequenceTokens(const GrpcAttachment& attachment, const GrpcPeer& peer, bool unary) {
  // A unary reply has room for so many rows alone, of which a sequence may be more.
  if (unary || !wire::HasFeature(attachment.offer().features, wire::kTokenWindows)) return 0;
  const AddressScheme& scheme = peer.manifest->scheme;
  return GrpcTokens::MaxSequenceTokens(peer.max_request_bytes, scheme.layers.size(),
                                       scheme.Lookback());
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

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const GrpcOptions& options) {
  ENGRAM_RETURN_IF_ERROR(CheckOptions(options));
  ENGRAM_ASSIGN_OR_RETURN(
      std::shared_ptr<const GrpcAttachment> attachment,
      GrpcAttachment::Create(
          address, table_set,
          {.timeout = options.timeout, .security = options.security, .clock = options.clock}));
  return Create(std::move(attachment), options);
}

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Create(
    std::shared_ptr<const GrpcAttachment> attachment, const GrpcOptions& options,
    std::shared_ptr<QueueDriver> driver) {
  ENGRAM_RETURN_IF_ERROR(CheckOptions(options));
  if (driver == nullptr) {
    ENGRAM_ASSIGN_OR_RETURN(driver, QueueDriver::Create(options.spin, attachment->clock()));
  }
  return std::unique_ptr<Transport>(
      new GrpcTransport(std::move(attachment), options, std::move(driver)));
}

GrpcTransport::GrpcTransport(std::shared_ptr<const GrpcAttachment> attachment,
                             const GrpcOptions& options, std::shared_ptr<QueueDriver> driver)
    : TicketedTransport({.clock = &attachment->clock(),
                         .owner = absl::StrCat("engramd at ", attachment->address())}),
      attachment_(std::move(attachment)),
      peer_(PeerOf(*attachment_, options.unary)),
      capabilities_{.name = "grpc",
                    .lands_asynchronously = true,
                    .max_batch_rows = attachment_->offer().max_batch_rows > 0
                                          ? attachment_->offer().max_batch_rows
                                          : kDefaultBatchRows,
                    .max_sequence_tokens = MaxSequenceTokens(*attachment_, peer_, options.unary),
                    .lands_at_places = true,
                    // Whoever offers token_windows takes slices, too.
                    .token_slices = MaxSequenceTokens(*attachment_, peer_, options.unary) > 0,
                    .tokens_at_places = true,
                    .repeats_removed_from = RowDeduplicator::kMinRows,
                    .owner_version = attachment_->offer().version},
      asks_once_(options.asks_once),
      driver_(std::move(driver)) {
  for (uint32_t i = 0; i < options.connections; ++i) {
    channels_.push_back(i == 0 ? attachment_->channel() : attachment_->OpenChannel());
    stubs_.push_back(std::make_unique<RawStub>(channels_.back()));
  }
  // One connection after the other, so that neighbours in turn are on different ones.
  for (uint32_t i = 0; i < (options.unary ? 1 : options.streams); ++i) {
    for (const std::unique_ptr<RawStub>& stub : stubs_) {
      const GrpcCallContext context = {.stub = stub.get(),
                                       .credentials = &attachment_->credentials(),
                                       .queue = driver_->queue(),
                                       .sink = this,
                                       .clock = &clock()};
      if (options.unary) {
        lanes_.push_back(std::make_unique<GrpcUnaryCalls>(context));
      } else {
        lanes_.push_back(std::make_unique<GrpcStream>(context));
      }
    }
  }
}

GrpcTransport::~GrpcTransport() {
  ReapAll();
  {
    MutexLock lock(timers_mutex_);
    ending_ = true;
    for (const std::unique_ptr<Retry>& retry : retries_) driver_->CallOff(*retry);
    if (deadline_pending_) driver_->CallOff(deadline_event_);
    if (connect_pending_) driver_->CallOff(connect_event_);
  }
  for (const std::unique_ptr<GrpcCalls>& lane : lanes_) {
    for (uint64_t never_sent = lane->End(); never_sent > 0; --never_sent) driver_->Finish();
  }
  driver_->DriveOut([this] { return Ended(); });
}

bool GrpcTransport::Ended() const {
  return timers_pending_.load() == 0 &&
         std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->Ended(); });
}

absl::Status GrpcTransport::Prepare(const BatchRequest& request) {
  return CheckBatch(request, *peer_.manifest, capabilities_, clock());
}

absl::Status GrpcTransport::Start(const BatchRequest& request, TicketedBatch& ticketed) {
  auto& batch = static_cast<GrpcBatch&>(ticketed);
  const MonotonicTime now = clock().Now();
  batch.Fill(peer_, request, deduplicator_, now);
  const std::vector<RequestPointer> requests = batch.Cut();
  {
    TicketLock lock(*this);
    batch.requests() = requests;
  }
  driver_->Begin(requests.size());
  // A stream that broke while nobody looked is found out before it is written to.
  const MonotonicTime last_reply = MonotonicTime::FromNanoseconds(last_reply_ns_.load());
  if (now - last_reply > kQuiet) driver_->TakeReady();
  for (const RequestPointer& one : requests) Send(one);
  if (request.sink != nullptr) WatchDeadline(request.deadline);
  return absl::OkStatus();
}

void GrpcTransport::Send(const RequestPointer& request) {
  const uint32_t turn = next_lane_.fetch_add(1, std::memory_order_relaxed);
  if (!lanes_[turn % lanes_.size()]->Send(request)) driver_->Finish();
}

void GrpcTransport::Advance(TicketedBatch&) { driver_->TakeReady(); }

void GrpcTransport::Drive(TicketedBatch&, const Awaited& awaited, MonotonicTime until) {
  const bool reached = driver_->DriveUntil([&] { return awaited.Reached(); }, until);
  // Rows that are there count.
  if (!reached) driver_->TakeReady();
}

void GrpcTransport::TryCancel(TicketedBatch& batch) {
  std::vector<RequestPointer> requests;
  {
    TicketLock lock(*this);
    requests = static_cast<GrpcBatch&>(batch).requests();
  }
  // They are finished when the server has answered that they are: until then somebody takes their
  // events, or the wish to cancel might never leave.
  for (const RequestPointer& request : requests) {
    for (const std::unique_ptr<GrpcCalls>& lane : lanes_) {
      if (lane->Cancel(request)) driver_->Finish();
    }
  }
  driver_->Kick();
}

void GrpcTransport::Forget(TicketedBatch& batch) {
  static_cast<GrpcBatch&>(batch).requests().clear();
}

void GrpcTransport::OnReply(const RequestPointer& request, absl::Span<const wire::Bytes> chain,
                            const wire::LookupResponse& reply, bool ended) {
  last_reply_ns_.store(clock().Now().nanoseconds(), std::memory_order_relaxed);
  if (reply.code == 0) {
    Land(request, chain, reply, ended);
    if (ended) driver_->Finish();
    return;
  }
  absl::Status status =
      FromGrpc({static_cast<grpc::StatusCode>(reply.code), reply.message}, peer_.address);
  if (reply.retry_after_ms > 0) {
    const absl::Duration delay = absl::Milliseconds(reply.retry_after_ms);
    if (!asks_once_ && MayRestart(request)) return SendLater(request, delay);
    MarkRetryAfter(delay, &status);
  }
  FailRequest(request, std::move(status));
}

void GrpcTransport::Land(const RequestPointer& request, absl::Span<const wire::Bytes> chain,
                         const wire::LookupResponse& reply, bool ended) {
  GrpcBatch& batch = *request->batch;
  {
    TicketLock lock(*this);
    if (!BeginWrite(batch)) return;
  }
  landed_layers_.clear();
  absl::Status status = batch.CheckReply(*request, reply, ended);
  if (status.ok() && !batch.BeginLanding()) {
    status = absl::CancelledError("its rows are wanted no more");
  } else if (status.ok()) {
    batch.LandRows(*request, chain, reply, &landed_layers_);
    batch.EndLanding();
  }
  TicketLock lock(*this);
  if (!status.ok()) Fail(batch, std::move(status));
  for (const size_t layer : landed_layers_) LandLayer(batch, layer);
  EndWrite(batch);
}

bool GrpcTransport::MayRestart(const RequestPointer& request) {
  TicketLock lock(*this);
  return MayAskAgain(*request->batch) && !request->HasBegun();
}

void GrpcTransport::OnGone(const RequestPointer& request, const grpc::Status& status,
                           bool had_answered) {
  // CANCELLED: by the server, which ends a call that takes nothing while others want the memory.
  const bool broke = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                     status.error_code() == grpc::StatusCode::CANCELLED;
  if (asks_once_) return FailGone(request, status, broke);
  if (had_answered && broke && !request->sent_again && MayRestart(request)) {
    request->sent_again = true;
    Send(request);
    return;
  }
  // With details the server says that it is a matter of time.
  if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
      !status.error_details().empty() && MayRestart(request)) {
    SendLater(request, kUnaryRetryDelay);
    return;
  }
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) ConnectAgain();
  FailRequest(request, FromGrpc(status, peer_.address));
}

void GrpcTransport::FailGone(const RequestPointer& request, const grpc::Status& status,
                             bool broke) {
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) ConnectAgain();
  // CANCELLED would read as if the batch's owner here had wanted it.
  absl::Status why =
      status.error_code() == grpc::StatusCode::CANCELLED
          ? absl::UnavailableError(absl::StrCat("engramd at ", peer_.address, " ended the stream"))
          : FromGrpc(status, peer_.address);
  if (broke) MarkBroken(&why);
  FailRequest(request, std::move(why));
}

void GrpcTransport::FailRequest(const RequestPointer& request, absl::Status status) {
  {
    TicketLock lock(*this);
    Fail(*request->batch, std::move(status));
  }
  driver_->Finish();
}

void GrpcTransport::SendLater(const RequestPointer& request, absl::Duration delay) {
  const MonotonicTime at = clock().After(delay);
  const GrpcBatch& batch = *request->batch;
  const MonotonicTime end =
      batch.deadline().is_infinite() ? batch.begin() + kMaxRetryTime : batch.deadline();
  if (at < end) {
    auto retry = std::make_unique<Retry>();
    retry->transport = this;
    retry->request = request;
    MutexLock lock(timers_mutex_);
    if (!ending_) {
      ++timers_pending_;
      driver_->SetTimer(at, *retry);
      retries_.push_back(std::move(retry));
      return;
    }
  }
  FailRequest(request, absl::ResourceExhaustedError(absl::StrCat(
                           "engramd at ", peer_.address,
                           " had no room for the batch for as long as it could wait: send "
                           "less at a time, or give it a later deadline")));
}

void GrpcTransport::OnRetry(Retry* retry, bool ok) {
  std::unique_ptr<Retry> over;
  {
    MutexLock lock(timers_mutex_);
    const auto at = std::find_if(retries_.begin(), retries_.end(),
                                 [&](const auto& one) { return one.get() == retry; });
    ENGRAM_CHECK(at != retries_.end(), "a request's time to be sent again came twice");
    over = std::move(*at);
    retries_.erase(at);
    ok = ok && !ending_;
  }
  --timers_pending_;
  if (ok && over->request->batch->in_flight()) {
    Send(over->request);
  } else {
    driver_->Finish();
  }
}

void GrpcTransport::WatchDeadline(MonotonicTime deadline) {
  MutexLock lock(timers_mutex_);
  if (ending_ || deadline >= next_deadline_) return;
  next_deadline_ = deadline;
  if (deadline_pending_) {
    driver_->CallOff(deadline_event_);  // which is told, and sets it anew
    return;
  }
  deadline_pending_ = true;
  ++timers_pending_;
  driver_->SetTimer(deadline, deadline_event_);
}

void GrpcTransport::OnDeadline(bool) {
  {
    MutexLock lock(timers_mutex_);
    deadline_pending_ = false;
    next_deadline_ = MonotonicTime::Infinite();
  }
  // After that: a ticket that is opened from now on asks for its own.
  // One that it cannot end yet is looked at again, not at once.
  WatchDeadline(std::max(EndLate(), clock().After(kLookAgain)));
  --timers_pending_;
}

void GrpcTransport::ConnectAgain() {
  MutexLock lock(timers_mutex_);
  if (ending_) return;
  connect_until_ = clock().After(kConnectTime);
  if (connect_pending_) return;
  connect_pending_ = true;
  ++timers_pending_;
  driver_->Begin(1);  // its own thread looks where nobody waits
  driver_->SetTimer(clock().After(kConnectAgain), connect_event_);
}

// Whether there are any.
bool GrpcTransport::TryLostConnections() {
  bool lost = false;
  for (const std::shared_ptr<grpc::Channel>& channel : channels_) {
    const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/false);
    if (state != GRPC_CHANNEL_TRANSIENT_FAILURE && state != GRPC_CHANNEL_CONNECTING) continue;
    lost = true;
    grpc::experimental::ChannelResetConnectionBackoff(channel.get());
  }
  return lost;
}

void GrpcTransport::OnConnectAgain(bool ok) {
  const bool lost = ok && TryLostConnections();
  {
    MutexLock lock(timers_mutex_);
    connect_pending_ = lost && !ending_ && clock().Now() < connect_until_;
    if (connect_pending_) {
      driver_->SetTimer(clock().After(kConnectAgain), connect_event_);
      return;
    }
  }
  --timers_pending_;
  driver_->Finish();
}

}  // namespace engram
