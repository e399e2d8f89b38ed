// One RDMA connection of a client: the lease, the queue pair, the buffers that requests are sent
// from and refusals received in.
//
// All is posted and registered when it opens; sending a request then allocates nothing. Not
// thread-safe, but for what the lease does.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/rdma/rdma_lease.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/verbs.h"

namespace engram {

// Where a client's connections go, and from where.
struct RdmaRoute {
  std::string address;  // of the owner's gRPC
  std::shared_ptr<const GrpcCredentials> credentials;
  std::shared_ptr<grpc::Channel> channel;
  std::string set_id;
  bool reads = false;
  std::shared_ptr<RdmaDomain> domain;  // of the client, on the device that it uses
  uint32_t port = 0;                   // of the owner's offer
};

// What was posted and what completed, counted since the connection was opened.
struct RdmaCounts {
  uint64_t sends = 0;        // requests, or reads
  uint64_t doorbells = 0;    // calls that posted them
  uint64_t completions = 0;  // taken, of whatever kind
};

// The device that leads to one of the ports of the offer, and its place there; `device` names one
// (DEV[:PORT[:GID]]) or is empty. NOT_FOUND says what was tried.
absl::StatusOr<std::pair<std::shared_ptr<const RdmaDevice>, uint32_t>> ChooseRdmaDevice(
    const v1::RdmaOffer& offer, absl::string_view device);

class RdmaConnection {
 public:
  // Over a lease that is open and not connected yet. RdmaLease and RdmaDevice have the errors.
  static absl::StatusOr<std::unique_ptr<RdmaConnection>> Connect(const RdmaRoute& route,
                                                                 std::unique_ptr<RdmaLease> lease);
  ~RdmaConnection();

  RdmaLease& lease() { return *lease_; }
  RdmaChannel& channel() { return *channel_; }
  const v1::RdmaConnected& connected() const { return connected_; }
  ibv_qp* pair() const { return pair_.get(); }
  const RdmaCompletions& completions() const { return completions_; }
  RdmaCounts& counts() { return counts_; }

  // The buffer of a slot, and sending its first `bytes` bytes.
  std::byte* request(uint32_t slot) const {
    return requests_.data() + uint64_t{slot} * kRdmaRequestBytes;
  }
  // False while the queue has no room. INTERNAL when the device refuses.
  bool MaySend() const { return unacknowledged_ < kRdmaClientSendQueue; }
  absl::Status SendRequest(uint32_t slot, uint32_t bytes);
  // A completion of SendRequest, by its wr_id.
  void OnSent(uint64_t wr_id) { unacknowledged_ -= static_cast<uint32_t>(wr_id); }
  static constexpr uint64_t kSent = uint64_t{1} << 32;  // set in the wr_id of what was sent

  // A completed receive's bytes; then it is posted again.
  absl::Span<const std::byte> Received(uint64_t wr_id, uint32_t bytes) const {
    return {receives_.data() + wr_id * kRdmaRefusalBytes, bytes};
  }
  absl::Status PostReceive(uint64_t wr_id);

  // From its return on nothing that the owner sends reaches memory. Takes some milliseconds.
  void Close();

 private:
  RdmaConnection() = default;
  absl::Status Open(const RdmaRoute& route);

  std::unique_ptr<RdmaLease> lease_;
  std::shared_ptr<RdmaChannel> channel_;
  RdmaBuffer requests_, receives_;
  RdmaCompletions completions_;
  RdmaQueuePair pair_;
  v1::RdmaConnected connected_;
  uint32_t unacknowledged_ = 0;  // sends whose completion, or a later one's, has not come
  uint32_t unsignalled_ = 0;     // sends since one asked for a completion
  RdmaCounts counts_;
};

}  // namespace engram
