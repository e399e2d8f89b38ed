// What attaching to an engramd over gRPC gives: the table set, what its owner offers, and the
// credentials and the channel over which more is asked of it.
//
// Everything that attaches over gRPC is made from one: rows over gRPC, an RDMA lease, and auto,
// which tries several ways with one attachment. Immutable, so thread-safe; shared, because the
// transports made from it outlive each other. Create blocks for at most its time-out.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/security_options.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"

namespace engram {

struct GrpcAttachOptions {
  // One try at least is made, however short it is.
  absl::Duration timeout = absl::Seconds(30);
  SecurityOptions security = {};
  // Of the attachment and of all that is made from it; outlives them.
  Clock* clock = &RealClock();
};

// What the owner says of itself beside the set. A limit that it does not name is 0.
struct GrpcOffer {
  uint64_t max_batch_rows = 0;
  uint64_t max_request_bytes = 0;
  uint64_t max_unary_reply_bytes = 0;
  std::string shm_socket;  // on the owner's machine; empty: no shared memory
  // Of requests over gRPC (proto/wire/features.h). An owner that is older than features has none,
  // and no version.
  std::vector<std::string> features = {};
  std::string version = {};
};

class GrpcAttachment {
 public:
  // `address`: HOST:PORT or unix:PATH. `table_set`: an id, a name, or empty for the only one.
  // UNAVAILABLE: nobody answered, or the server was loading, all the time. UNAUTHENTICATED: one
  // side does not take the other's certificate, or the token. PERMISSION_DENIED: not this table
  // set. FAILED_PRECONDITION: no such set, or several and none was named. DATA_LOSS: what came is
  // not what its id says, or not what was asked for. UNIMPLEMENTED: another port of engramd's
  // answers there, that of operators or of monitoring. GrpcCredentials::Create has the rest.
  static absl::StatusOr<std::shared_ptr<const GrpcAttachment>> Create(
      const std::string& address, const std::string& table_set, const GrpcAttachOptions& options);

  // The same set at another owner, which is not asked for it: what rows are of is said in every
  // reply. `channel` leads to `address`; `features` are that owner's. Its limits are taken to be
  // those of this one's owner.
  std::shared_ptr<const GrpcAttachment> At(std::string address,
                                           std::shared_ptr<const GrpcCredentials> credentials,
                                           std::shared_ptr<grpc::Channel> channel,
                                           std::vector<std::string> features) const;

  const std::string& address() const { return address_; }
  const AttachedTableSet& table_set() const { return table_set_; }
  const GrpcOffer& offer() const { return offer_; }
  const GrpcCredentials& credentials() const { return *credentials_; }
  // The one that it attached over: connected, and free for further calls.
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }
  // A connection of its own to the same owner, which it begins to make now.
  std::shared_ptr<grpc::Channel> OpenChannel() const;
  Clock& clock() const { return *clock_; }

  // Transport::WaitSuperseded's contract.
  absl::Status WaitSuperseded(std::stop_token stop) const;

 private:
  GrpcAttachment(std::string address, AttachedTableSet table_set, GrpcOffer offer,
                 std::shared_ptr<const GrpcCredentials> credentials,
                 std::shared_ptr<grpc::Channel> channel, Clock* clock)
      : address_(std::move(address)),
        table_set_(std::move(table_set)),
        offer_(std::move(offer)),
        credentials_(std::move(credentials)),
        channel_(std::move(channel)),
        clock_(clock) {}

  const std::string address_;
  const AttachedTableSet table_set_;
  const GrpcOffer offer_;
  const std::shared_ptr<const GrpcCredentials> credentials_;
  const std::shared_ptr<grpc::Channel> channel_;
  Clock* const clock_;
};

}  // namespace engram
