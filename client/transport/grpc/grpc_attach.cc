#include "client/transport/grpc/grpc_attach.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/transport/attach_check.h"
#include "client/transport/grpc/blocking_call.h"
#include "client/transport/grpc/grpc_deadline.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/status_macros.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// A server that comes up is found within this time.
constexpr int kMaxReconnectBackoffMs = 250;
constexpr int kFirstReconnectBackoffMs = 50;
// How long a server may take to answer a connection: a busy one takes its time, and every attempt
// that is given up costs it another. As long as engramd waits for its clients (kMaxHandshake).
constexpr int kMaxConnectMs = 10'000;
constexpr absl::Duration kAttachRetry = absl::Milliseconds(100);
// One try at least is made, however short the time-out.
constexpr absl::Duration kMinAttachTime = absl::Milliseconds(200);
// The manifest (at most 16 MiB) and the token map come in one message: room for maps of ten million
// ids, far above any tokenizer.
constexpr int kMaxMessageBytes = 64 << 20;
constexpr int kLookaheadBytes = 4 << 20;
constexpr int kMaxFrameBytes = 1 << 20;

// Whether gRPC's words for a connection that failed are of a handshake that did: there is no code
// for it.
bool IsHandshake(absl::string_view message) {
  const std::string words = absl::AsciiStrToLower(message);
  return absl::StrContains(words, "handshake") || absl::StrContains(words, "ssl_") ||
         absl::StrContains(words, "verification check");
}

// An engramd that does not take a client's certificate says so after the client's part of the
// handshake is over: all that gRPC tells is that the connection was closed, each time again. So
// often in a row it is that, and not an engramd that has just stopped.
constexpr int kClosedAtOnce = 5;

}  // namespace

absl::Status HandshakeWatch::Observe(const grpc::Status& status) {
  const bool down = credentials_.tls() && status.error_code() == grpc::StatusCode::UNAVAILABLE;
  const bool closed = down && absl::StrContains(status.error_message(), "Socket closed");
  closed_ = closed ? closed_ + 1 : 0;
  if (!down) return absl::OkStatus();
  if (!IsHandshake(status.error_message()) && closed_ < kClosedAtOnce) return absl::OkStatus();
  const absl::Status unused = credentials_.Refusal();
  return absl::UnauthenticatedError(absl::StrCat(
      "no TLS with engramd at ", address_,
      ": one side does not take the other's certificate, or speaks no TLS: is the "
      "authority right (tls_ca here, --tls-client-ca there), are both certificates "
      "valid now, and engramd's for this host? (",
      status.error_message(), ")",
      unused.ok() ? "" : absl::StrCat("; what was read before is used, for ", unused.message())));
}

std::shared_ptr<grpc::Channel> OpenChannel(const std::string& address,
                                           const GrpcCredentials& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectBackoffMs);
  // Not a backoff, whatever its name: the time that an attempt has.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kMaxConnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectBackoffMs);
  // Clients of one process do not share a connection: each has its own flow control.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A proxy of the environment is for the web, not for rows.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Never: the default is a timer of 24 days, set again for every read. Calls have deadlines.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, std::numeric_limits<int>::max());
  // What the server may send ahead, and in how large frames.
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kMaxFrameBytes);
  if (!credentials.server_name().empty()) {
    arguments.SetSslTargetNameOverride(credentials.server_name());
  }
  return grpc::CreateCustomChannel(address, credentials.channel(), arguments);
}

absl::StatusOr<v1::AttachResponse> CallAttach(const std::shared_ptr<grpc::Channel>& channel,
                                              const GrpcCredentials& credentials,
                                              const std::string& address,
                                              const std::string& table_set, absl::Duration timeout,
                                              Clock& clock) {
  const MonotonicTime deadline = clock.After(std::max(timeout, kMinAttachTime));
  v1::AttachRequest request;
  request.set_table_set(table_set);
  for (const absl::string_view feature : wire::kKnownFeatures) {
    request.add_features(feature.data(), feature.size());
  }
  request.set_version(kEngramVersion);
  HandshakeWatch handshake(credentials, address);
  const std::unique_ptr<v1::Lookup::Stub> stub = v1::Lookup::NewStub(channel);
  ENGRAM_ASSIGN_OR_RETURN(const std::shared_ptr<QueueDriver> driver,
                          QueueDriver::Create(absl::ZeroDuration(), clock));
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(GrpcDeadline(deadline, clock));
    // With TLS a connection that fails may be one that will never do: its reason is looked at.
    context.set_wait_for_ready(!credentials.tls());
    credentials.Apply(&context);
    v1::AttachResponse response;
    const auto reader = stub->AsyncAttach(&context, request, driver->queue());
    const grpc::Status status =
        BlockingCall(*driver, *channel, clock).Finish(context, *reader, &response, deadline);
    if (status.ok()) return response;
    // With details the server says that it is a matter of time.
    const bool may_pass = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                          status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                          (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                           !status.error_details().empty());
    if (!may_pass) {
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          absl::StrCat("engramd at ", address, ": ", status.error_message()));
    }
    if (absl::Status refused = handshake.Observe(status); !refused.ok()) return refused;
    if (clock.After(kAttachRetry) >= deadline) {
      return absl::UnavailableError(absl::StrCat(
          "no engramd answered at ", address, " within ", absl::FormatDuration(timeout), " (",
          status.error_message(), "): is it running there, still loading, or flooded?",
          credentials.tls() ? "" : " If it speaks TLS, give its authority (tls_ca)."));
    }
    clock.SleepFor(kAttachRetry);
  }
}

absl::StatusOr<AttachedTableSet> CheckAttached(const v1::AttachResponse& response,
                                               absl::string_view table_set,
                                               const std::string& address) {
  const std::string owner = absl::StrCat("engramd at ", address);
  return CheckAttached(
      {.owner = owner, .table_set_id = response.table_set_id(), .manifest = response.manifest()},
      table_set, [&]() -> absl::StatusOr<absl::string_view> { return response.token_map(); });
}

absl::Status FromGrpc(const grpc::Status& status, const std::string& address) {
  // Asked for by nobody here: a server that stops drops calls that reach it too late, and one that
  // is short of memory those whose client takes nothing.
  if (status.error_code() == grpc::StatusCode::CANCELLED) {
    return absl::UnavailableError(
        absl::StrCat("engramd at ", address,
                     " dropped the call: it is stopping, or this client took no rows for seconds "
                     "while others waited for the memory"));
  }
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("engramd at ", address, ": ", status.error_message()));
}

}  // namespace engram
