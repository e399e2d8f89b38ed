#include "client/transport/grpc_transport.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/transport/batch_check.h"

namespace engram {
namespace {

// A server that comes up is found within this time.
constexpr int kMaxReconnectBackoffMs = 250;
constexpr int kMinReconnectBackoffMs = 50;
constexpr absl::Duration kAttachRetry = absl::Milliseconds(100);
// One try at least is made, however short the time-out.
constexpr absl::Duration kMinAttachTime = absl::Milliseconds(200);
// What a reply holds beside its rows (ids, tags, lengths), generously.
constexpr uint64_t kReplyOverheadBytes = 64 << 10;
// The manifest (at most 16 MiB) and the token map come in one message: room for maps of ten million
// ids, far above any tokenizer.
constexpr int kMaxMessageBytes = 64 << 20;
// When a server names none: gRPC's own default for a message, and what fits a few hundred of them.
constexpr uint64_t kDefaultReplyBytes = 4 << 20;
constexpr uint64_t kDefaultBatchRows = 1 << 20;

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kMinReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMinReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  // Clients of one process do not share a connection: each has its own flow control.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A proxy of the environment is for the web, not for rows.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

absl::StatusOr<v1::AttachResponse> CallAttach(v1::Lookup::Stub* stub, const std::string& address,
                                              const std::string& table_set,
                                              absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + std::max(timeout, kMinAttachTime);
  v1::AttachRequest request;
  request.set_table_set(table_set);
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    context.set_wait_for_ready(true);
    v1::AttachResponse response;
    const grpc::Status status = stub->Attach(&context, request, &response);
    if (status.ok()) return response;
    const bool absent = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                        status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
    if (!absent) {
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          absl::StrCat("engramd at ", address, ": ", status.error_message()));
    }
    if (absl::Now() + kAttachRetry >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          "no engramd answered at ", address, " within ", absl::FormatDuration(timeout), " (",
          status.error_message(), "): is it running there, or still loading?"));
    }
    absl::SleepFor(kAttachRetry);
  }
}

// What the owner sent, after it was held against the id.
absl::StatusOr<AttachedTableSet> CheckAttached(const v1::AttachResponse& response,
                                               const std::string& address) {
  const std::string source = absl::StrCat("the manifest that engramd at ", address, " sent");
  absl::StatusOr<Manifest> manifest = ParseManifest(response.manifest(), source);
  if (!manifest.ok()) return absl::DataLossError(manifest.status().message());
  if (manifest->id != response.table_set_id()) {
    return absl::DataLossError(absl::StrCat(source, " has digest ", manifest->id,
                                            ", but it is said to be table set ",
                                            response.table_set_id()));
  }
  AttachedTableSet attached{.manifest = *std::move(manifest), .token_map = nullptr};
  const AddressScheme& scheme = attached.manifest.scheme;
  if (scheme.token_map) {
    absl::StatusOr<TokenMap> map =
        TokenMap::Parse(response.token_map(), scheme.vocab_size, *scheme.token_map,
                        absl::StrCat("the token map that engramd at ", address, " sent"));
    if (!map.ok()) return absl::DataLossError(map.status().message());
    attached.token_map = std::make_shared<const TokenMap>(*std::move(map));
  }
  return attached;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> GrpcTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 absl::Duration timeout) {
  std::unique_ptr<v1::Lookup::Stub> stub = v1::Lookup::NewStub(OpenChannel(address));
  const absl::StatusOr<v1::AttachResponse> response =
      CallAttach(stub.get(), address, table_set, timeout);
  if (!response.ok()) return response.status();
  absl::StatusOr<AttachedTableSet> attached = CheckAttached(*response, address);
  if (!attached.ok()) return attached.status();
  return std::unique_ptr<Transport>(
      new GrpcTransport(std::move(stub), address, *std::move(attached), response->limits()));
}

GrpcTransport::GrpcTransport(std::unique_ptr<v1::Lookup::Stub> stub, std::string address,
                             AttachedTableSet attached, const v1::Limits& limits)
    : attached_(std::move(attached)),
      stub_(std::move(stub)),
      capabilities_{.name = "grpc",
                    .lands_asynchronously = true,
                    .max_batch_rows =
                        limits.max_batch_rows() > 0 ? limits.max_batch_rows() : kDefaultBatchRows} {
  const uint64_t reply_bytes =
      limits.max_unary_reply_bytes() > 0 ? limits.max_unary_reply_bytes() : kDefaultReplyBytes;
  channel_ = {.stub = stub_.get(),
              .queue = &queue_,
              .address = std::move(address),
              .table_set_id = attached_.manifest.id,
              .manifest = &attached_.manifest,
              // Room for at least one row of the widest kind.
              .max_reply_bytes = std::max<uint64_t>(
                  kMaxRowBytes, reply_bytes - std::min(reply_bytes, kReplyOverheadBytes))};
  replies_ = std::thread([this] { TakeReplies(); });
  pthread_setname_np(replies_.native_handle(), "engram-grpc");
}

GrpcTransport::~GrpcTransport() {
  for (const Ticket ticket : tickets_.OpenTickets()) GrpcTransport::Reap(ticket);
  // Calls that were cancelled still come back through the queue; the thread ends after the last.
  queue_.Shutdown();
  replies_.join();
}

void GrpcTransport::TakeReplies() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
    const std::unique_ptr<GrpcBatch::Call> call(static_cast<GrpcBatch::Call*>(tag));
    const std::shared_ptr<GrpcBatch> batch = std::move(call->batch);
    batch->OnCallDone(call.get());
  }
}

absl::StatusOr<Ticket> GrpcTransport::Submit(const BatchRequest& batch) {
  absl::Status status = CheckBatch(batch, attached_.manifest, capabilities_.max_batch_rows);
  if (!status.ok()) return status;
  auto call = std::make_shared<GrpcBatch>(channel_, batch);
  absl::StatusOr<Ticket> ticket = tickets_.Open(call);
  if (ticket.ok()) call->Start();
  return ticket;
}

TicketState GrpcTransport::Poll(Ticket ticket) {
  const std::shared_ptr<GrpcBatch> batch = tickets_.Find(ticket);
  return batch != nullptr ? batch->Poll() : TicketState::kReaped;
}

absl::Status GrpcTransport::Wait(Ticket ticket) {
  const std::shared_ptr<GrpcBatch> batch = tickets_.Find(ticket);
  if (batch != nullptr) return batch->Wait();
  return absl::FailedPreconditionError("the ticket was reaped, or never given out");
}

void GrpcTransport::Cancel(Ticket ticket) {
  const std::shared_ptr<GrpcBatch> batch = tickets_.Find(ticket);
  if (batch != nullptr) batch->Fail(absl::CancelledError("the batch was cancelled"));
}

void GrpcTransport::Reap(Ticket ticket) {
  // After Fail returns no row is copied any more: both hold the batch's lock.
  const std::shared_ptr<GrpcBatch> batch = tickets_.Close(ticket);
  if (batch != nullptr) batch->Fail(absl::CancelledError("the batch was reaped"));
}

}  // namespace engram
