#include "client/transport/grpc/grpc_channel.h"

#include <limits>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/transport/grpc/identity_list.h"
#include "memstore/base/message_line.h"

namespace engram {
namespace {

// A server that comes up is found within this time.
constexpr int kMaxReconnectBackoffMs = 250;
constexpr int kFirstReconnectBackoffMs = 50;
// How long a server may take to answer a connection: a busy one takes its time, and every attempt
// that is given up costs it another. As long as engramd waits for its clients (kMaxHandshake).
constexpr int kMaxConnectMs = 10'000;
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

// What is wrong, as far as gRPC's words tell, and what to do.
std::string WhyNoTls(absl::string_view message, bool shows_certificate) {
  if (absl::StrContains(message, kNoIdentity)) {
    return "its certificate names nobody who is taken for an engramd here: if it is one, give a "
           "name that it carries by --tls-identity";
  }
  if (absl::StrContains(absl::AsciiStrToLower(message), "hostname verification")) {
    return "its certificate is not for this host: give the name that it is for by "
           "--tls-server-name or --tls-identity, or have one made for this host";
  }
  return absl::StrCat(
      "one side does not take the other's certificate, or speaks no TLS: is the authority right "
      "(--tls-ca here, --tls-client-ca there), are both certificates valid now, and engramd's "
      "for this host?",
      shows_certificate ? " Is the client's certificate made for clients (extended key usage "
                          "clientAuth, where it has one)?"
                        : " engramd may want a client's certificate: --tls-cert, --tls-key");
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
      "no TLS with engramd at ", address_, ": ",
      WhyNoTls(status.error_message(), credentials_.shows_certificate()), " (", PeerWords(status),
      ")",
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

absl::string_view WhatToDo(absl::string_view words) {
  if (absl::StrContains(words, "resolution failed")) {
    return "the host's name does not resolve: is it spelt as the network knows it?";
  }
  if (absl::StrContains(words, "Connection refused")) {
    return "the connection is refused, for nobody listens there: is it running there, at this "
           "address, or still loading?";
  }
  if (absl::StrContains(words, "No such file or directory")) {
    return "there is no such socket: is it running there, at this path, or still loading?";
  }
  for (const absl::string_view silent : {"Connection timed out", "No route", "unreachable"}) {
    if (!absl::StrContains(words, silent)) continue;
    return "nothing answers at this address: is it the right one, is the machine up, and do no "
           "firewall's rules drop what is sent there?";
  }
  return "is it running there, still loading, or flooded?";
}

std::string PeerWords(const grpc::Status& status) {
  return MessageLine(status.error_message(), kMaxPeerWordsBytes);
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
                      absl::StrCat("engramd at ", address, ": ", PeerWords(status)));
}

}  // namespace engram
