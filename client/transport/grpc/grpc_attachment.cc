#include "client/transport/grpc/grpc_attachment.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/attach_check.h"
#include "client/transport/grpc/blocking_call.h"
#include "client/transport/grpc/connect_probe.h"
#include "client/transport/grpc/grpc_channel.h"
#include "client/transport/grpc/grpc_deadline.h"
#include "client/transport/grpc/grpc_watch.h"
#include "client/transport/grpc/queue_driver.h"
#include "memstore/base/status_macros.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

constexpr absl::Duration kAttachRetry = absl::Milliseconds(100);
// One try at least is made, however short the time-out.
constexpr absl::Duration kMinAttachTime = absl::Milliseconds(200);

// More than a channel takes that knows already why it is not connected.
constexpr absl::Duration kAskWhy = absl::Milliseconds(200);

// Why a call that waited for its channel to be connected did so in vain, in gRPC's words: one that
// does not wait for it ends with them.
std::string WhyNot(v1::Lookup::Stub& stub, const v1::AttachRequest& request,
                   const std::string& address, const grpc::Status& status, grpc::Channel& channel,
                   QueueDriver& driver, Clock& clock) {
  if (channel.GetState(/*try_to_connect=*/false) != GRPC_CHANNEL_TRANSIENT_FAILURE) {
    // It is trying again just now, or waits for an answer to its first try.
    const std::string why = WhyNoConnection(address, kAskWhy);
    return why.empty() ? PeerWords(status) : why;
  }
  const MonotonicTime deadline = clock.After(kAskWhy);
  grpc::ClientContext context;
  context.set_deadline(GrpcDeadline(deadline, clock));
  context.set_wait_for_ready(false);
  v1::AttachResponse response;
  const auto reader = stub.AsyncAttach(&context, request, driver.queue());
  const grpc::Status asked =
      BlockingCall(driver, channel, clock).Finish(context, *reader, &response, deadline);
  return PeerWords(asked.error_code() == grpc::StatusCode::UNAVAILABLE ? asked : status);
}

// Finds out that what listens at an address is no gRPC server, but an engramd's for HTTP, or for
// shared memory: gRPC tries such a connection again and again. Looks once: a server that is busy is
// left alone.
class OtherServer {
 public:
  OtherServer(grpc::Channel& channel, const std::string& address)
      : channel_(channel), address_(address) {}
  // Blocks for kAskWhy where it looks; not while the channel is connected. CheckNoOtherServer has
  // the errors.
  absl::Status Look() {
    if (looked_ || channel_.GetState(/*try_to_connect=*/false) == GRPC_CHANNEL_READY) {
      return found_;
    }
    looked_ = true;
    found_ = CheckNoOtherServer(address_, "--listen", kAskWhy);
    return found_;
  }
  const absl::Status& found() const { return found_; }

 private:
  grpc::Channel& channel_;
  const std::string& address_;
  bool looked_ = false;
  absl::Status found_;
};

// Waits while nobody listens or the server is loading; UNAVAILABLE after that. UNAUTHENTICATED: one
// side does not take the other's certificate, or the token; PERMISSION_DENIED: not this table set.
// RESOURCE_EXHAUSTED: no thread can be started (one lives while it waits), or the server is full.
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
  OtherServer other(*channel, address);
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(GrpcDeadline(deadline, clock));
    // With TLS a connection that fails may be one that will never do: its reason is looked at.
    context.set_wait_for_ready(!credentials.tls());
    credentials.Apply(&context);
    v1::AttachResponse response;
    const auto reader = stub->AsyncAttach(&context, request, driver->queue());
    const grpc::Status status =
        BlockingCall(*driver, *channel, clock).Finish(context, *reader, &response, deadline, [&] {
          return !other.Look().ok();
        });
    if (status.ok()) return response;
    ENGRAM_RETURN_IF_ERROR(other.found());
    // With details the server says that it is a matter of time.
    const bool may_pass = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                          status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
                          (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
                           !status.error_details().empty());
    // gRPC's own answer where no such service is: engramd's is never without words.
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED && status.error_message().empty()) {
      return absl::UnimplementedError(
          absl::StrCat(address,
                       " answers gRPC but not Engram's lookups: is it engramd's port for operators "
                       "(--admin-grpc-listen)? Give the address of --listen"));
    }
    if (!may_pass) {
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          absl::StrCat("engramd at ", address, ": ", PeerWords(status)));
    }
    if (absl::Status refused = handshake.Observe(status); !refused.ok()) {
      ENGRAM_RETURN_IF_ERROR(other.Look());
      return refused;
    }
    if (clock.After(kAttachRetry) >= deadline) {
      ENGRAM_RETURN_IF_ERROR(other.Look());
      const std::string words = WhyNot(*stub, request, address, status, *channel, *driver, clock);
      return absl::UnavailableError(absl::StrCat(
          "no engramd answered at ", address, " within ",
          absl::FormatDuration(absl::Ceil(timeout, absl::Milliseconds(1))), " (", words,
          "): ", WhatToDo(words),
          credentials.tls() ? "" : " If it speaks TLS, give its authority (--tls-ca FILE)."));
    }
    clock.SleepFor(kAttachRetry);
  }
}

// As it came; whose rows they are of is checked with the manifest.
std::vector<HeldRanges> HeldOf(const v1::AttachResponse& response) {
  std::vector<HeldRanges> held;
  for (const v1::HeldLayer& layer : response.held()) {
    HeldRanges& ranges = held.emplace_back();
    ranges.layer = layer.layer();
    for (const v1::RowRange& range : layer.ranges()) {
      ranges.ranges.push_back({.first = range.first(), .rows = range.rows()});
    }
  }
  return held;
}

// What the owner sent, after it was held against the id that it says and against what it was asked
// for; DATA_LOSS.
absl::StatusOr<AttachedTableSet> TakeTableSet(const v1::AttachResponse& response,
                                              absl::string_view table_set,
                                              const std::string& address) {
  const std::string owner = absl::StrCat("engramd at ", address);
  return CheckAttached({.owner = owner,
                        .table_set_id = response.table_set_id(),
                        .manifest = response.manifest(),
                        .image_token_ids = response.image_token_ids(),
                        .held = HeldOf(response)},
                       table_set,
                       [&]() -> absl::StatusOr<absl::string_view> { return response.token_map(); });
}

// What does not fit is nothing that this client knows.
void TakeFeatures(const v1::AttachResponse& response, GrpcOffer* offer) {
  for (const std::string& feature : response.features()) {
    if (offer->features.size() == wire::kMostFeatures) break;
    if (feature.size() <= wire::kMostFeatureBytes) offer->features.push_back(feature);
  }
  offer->version = response.version().substr(0, wire::kMostFeatureBytes);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const GrpcAttachment>> GrpcAttachment::Create(
    const std::string& address, const std::string& table_set, const GrpcAttachOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const GrpcCredentials> credentials,
                          GrpcCredentials::Create(options.security, address, *options.clock));
  std::shared_ptr<grpc::Channel> channel = engram::OpenChannel(address, *credentials);
  ENGRAM_ASSIGN_OR_RETURN(
      const v1::AttachResponse response,
      CallAttach(channel, *credentials, address, table_set, options.timeout, *options.clock));
  ENGRAM_ASSIGN_OR_RETURN(AttachedTableSet attached, TakeTableSet(response, table_set, address));
  const v1::Limits& limits = response.limits();
  GrpcOffer offer = {.max_batch_rows = limits.max_batch_rows(),
                     .max_request_bytes = limits.max_request_bytes(),
                     .max_unary_reply_bytes = limits.max_unary_reply_bytes(),
                     .shm_socket = response.shm_socket()};
  TakeFeatures(response, &offer);
  return std::shared_ptr<const GrpcAttachment>(
      new GrpcAttachment(address, std::move(attached), std::move(offer), std::move(credentials),
                         std::move(channel), options.clock));
}

std::shared_ptr<const GrpcAttachment> GrpcAttachment::At(
    std::string address, std::shared_ptr<const GrpcCredentials> credentials,
    std::shared_ptr<grpc::Channel> channel, std::vector<std::string> features) const {
  AttachedTableSet set = table_set_;
  set.held.clear();
  GrpcOffer offer = offer_;
  offer.features = std::move(features);
  return std::shared_ptr<const GrpcAttachment>(
      new GrpcAttachment(std::move(address), std::move(set), std::move(offer),
                         std::move(credentials), std::move(channel), clock_));
}

std::shared_ptr<grpc::Channel> GrpcAttachment::OpenChannel() const {
  std::shared_ptr<grpc::Channel> channel = engram::OpenChannel(address_, *credentials_);
  channel->GetState(/*try_to_connect=*/true);
  return channel;
}

absl::Status GrpcAttachment::WaitSuperseded(std::stop_token stop) const {
  return WatchUntilSuperseded(channel_, *credentials_, table_set_.manifest, std::move(stop),
                              *clock_);
}

}  // namespace engram
