#include "client/transport/grpc/grpc_attachment.h"

#include "client/transport/grpc/grpc_attach.h"
#include "client/transport/grpc/grpc_watch.h"
#include "memstore/base/status_macros.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

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
  ENGRAM_ASSIGN_OR_RETURN(AttachedTableSet attached, CheckAttached(response, table_set, address));
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
