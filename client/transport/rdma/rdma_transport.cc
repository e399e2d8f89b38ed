#include "client/transport/rdma/rdma_transport.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/rdma/rdma_connection.h"
#include "client/transport/rdma/rdma_read_way.h"
#include "client/transport/rdma/rdma_write_way.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Of a short time to attach nothing may be left; the lease is a round trip to an owner that has
// just answered.
constexpr absl::Duration kLeastLeaseTime = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> RdmaTransport::Attach(const std::string& address,
                                                                 const std::string& table_set,
                                                                 const RdmaOptions& options) {
  ENGRAM_ASSIGN_OR_RETURN(
      std::shared_ptr<const GrpcAttachment> attachment,
      GrpcAttachment::Create(
          address, table_set,
          {.timeout = options.timeout, .security = options.security, .clock = options.clock}));
  return Create(std::move(attachment), options);
}

absl::StatusOr<std::unique_ptr<Transport>> RdmaTransport::Create(
    std::shared_ptr<const GrpcAttachment> attachment, const RdmaOptions& options) {
  if (options.spin < absl::ZeroDuration() || options.spin > kMaxWaitSpin) {
    return absl::InvalidArgumentError(absl::StrCat("a spin of ", absl::FormatDuration(options.spin),
                                                   ": at most ",
                                                   absl::FormatDuration(kMaxWaitSpin)));
  }
  RdmaRoute route{.grpc = attachment,
                  .set_id = attachment->table_set().manifest.id,
                  .reads = options.reads,
                  .domain = nullptr};
  const MonotonicTime deadline =
      attachment->clock().After(std::max(options.timeout, kLeastLeaseTime));
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<RdmaLease> lease, RdmaLease::Open(route, deadline));
  ENGRAM_ASSIGN_OR_RETURN(auto chosen, ChooseRdmaDevice(lease->offer(), options.device));
  ENGRAM_ASSIGN_OR_RETURN(route.domain, RdmaDomain::Create(chosen.first));
  route.port = chosen.second;
  std::unique_ptr<RdmaTransport> transport(new RdmaTransport(
      std::move(route), lease->offer().max_batch_rows(), lease->owner_features(), options));
  ENGRAM_ASSIGN_OR_RETURN(RdmaOpened first, transport->Open(std::move(lease), deadline));
  transport->Begin(std::move(first));
  return std::unique_ptr<Transport>(std::move(transport));
}

RdmaTransport::RdmaTransport(RdmaRoute route, uint64_t max_batch_rows,
                             const RdmaOwnerFeatures& owner, const RdmaOptions& options)
    : RdmaExchange({.address = route.grpc->address(),
                    .spin = options.spin,
                    .resend = options.resend,
                    .asks_once = options.asks_once,
                    .clock = &route.grpc->clock()}),
      route_(std::move(route)),
      owner_version_(owner.version),
      capabilities_{.name = route_.reads ? "rdma-read" : "rdma",
                    .lands_asynchronously = true,
                    .max_batch_rows = max_batch_rows,
                    .max_sequence_tokens = route_.reads ? uint32_t{0} : kRdmaRequestTokens,
                    .token_slices = owner.token_slices,
                    .owner_version = owner_version_},
      windows_(route_.domain, route_.reads, route_.grpc->clock()) {}

RdmaTransport::~RdmaTransport() { EndAll(); }

absl::StatusOr<RdmaOpened> RdmaTransport::OpenAnother(MonotonicTime deadline) {
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<RdmaLease> lease, next_lease_.Await(route_, deadline));
  return Open(std::move(lease), deadline);
}

absl::StatusOr<RdmaOpened> RdmaTransport::Open(std::unique_ptr<RdmaLease> lease,
                                               MonotonicTime deadline) {
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<RdmaConnection> connection,
                          RdmaConnection::Connect(route_, std::move(lease), deadline));
  ENGRAM_RETURN_IF_ERROR(windows_.MoveTo(connection, deadline));
  RdmaOpened opened{.link = connection, .way = nullptr};
  if (route_.reads) {
    ENGRAM_ASSIGN_OR_RETURN(opened.way, RdmaReadWay::Create(std::move(connection), route_.domain,
                                                            table_set().manifest));
  } else {
    opened.way = std::make_unique<RdmaWriteWay>(std::move(connection), clock());
  }
  return opened;
}

absl::Status RdmaTransport::Prepare(const BatchRequest& request) {
  return CheckBatch(request, table_set().manifest, capabilities_, clock());
}

absl::Status RdmaTransport::Fill(const BatchRequest& request, RdmaBatch& batch) const {
  return batch.Take(request, table_set().manifest, [this](const std::byte* data, uint64_t bytes) {
    return windows_.Find(data, bytes);
  });
}

}  // namespace engram
