// The client's end of AttachRdma: the gRPC stream over which an RDMA connection is set up, and
// whose being open is the client's lease.
//
// A thread ("engram-lease") reads the stream, so that the owner's pings are answered and the end of
// the lease is seen while nobody looks a row up. Thread-safe; calls go one after the other and
// block for a round trip, for a few seconds at most.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "memstore/base/clock.h"
#include "memstore/rdma/verbs.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

class RdmaLease {
 public:
  // UNIMPLEMENTED: the owner has no RDMA, or not this mode. FAILED_PRECONDITION: it does not serve
  // the set. UNAVAILABLE: it is not there.
  static absl::StatusOr<std::unique_ptr<RdmaLease>> Open(
      const std::shared_ptr<grpc::Channel>& channel, const GrpcCredentials& credentials,
      const std::string& address, const std::string& set_id, bool reads, MonotonicTime deadline);
  ~RdmaLease();  // detaches

  const v1::RdmaOffer& offer() const { return offer_; }
  absl::StatusOr<v1::RdmaConnected> Connect(uint32_t port, const RdmaPeer& own);
  absl::Status Declare(uint32_t number, const RdmaRegion& region);
  absl::Status Forget(uint32_t number);

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Why, once it ended; not OK then.
  absl::Status End() const;

 private:
  explicit RdmaLease(const std::string& address) : address_(address) {}
  absl::StatusOr<v1::RdmaAttachResponse> Call(const v1::RdmaAttachRequest& request,
                                              MonotonicTime deadline);
  void Read();

  const std::string address_;
  std::unique_ptr<v1::Lookup::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::RdmaAttachRequest, v1::RdmaAttachResponse>> stream_;
  v1::RdmaOffer offer_;

  std::mutex call_mutex_;  // one call at a time
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<v1::RdmaAttachResponse> response_;  // guarded by mutex_
  absl::Status end_;                                // guarded by mutex_
  std::atomic<bool> ended_{false};
  std::thread reader_;
};

// A queue pair as a message, and back. INVALID_ARGUMENT when the message is not one.
void DescribeRdmaPeer(const RdmaPeer& peer, v1::RdmaQueuePair* pair);
absl::StatusOr<RdmaPeer> ReadRdmaPeer(const v1::RdmaQueuePair& pair);

}  // namespace engram
