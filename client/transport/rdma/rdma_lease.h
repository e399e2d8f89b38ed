// The client's end of AttachRdma: the gRPC stream over which an RDMA connection is set up, and
// whose being open is the client's lease.
//
// A thread ("engram-lease") reads the stream, so that the owner's pings are answered and the end of
// the lease is seen while nobody looks a row up. It takes the events of all that is done to the
// stream, so that whoever calls waits by its deadline alone, whether or not the owner can be
// reached. Thread-safe; calls go one after the other and block for a round trip, for a few seconds
// at most. A call that was not answered in time ends the lease.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/grpc/grpc_attachment.h"
#include "client/transport/rdma/rdma_batch.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/rdma/verbs.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "proto/rpc/queue_event.h"

namespace engram {

// Where a client's connections go, and from where.
struct RdmaRoute {
  std::shared_ptr<const GrpcAttachment> grpc;  // of the owner
  std::string set_id;
  bool reads = false;
  std::shared_ptr<RdmaDomain> domain;  // of the client, on the device that it uses
  uint32_t port = 0;                   // of the owner's offer
};

class RdmaLease {
 public:
  // UNIMPLEMENTED: the owner has no RDMA, or not this mode. FAILED_PRECONDITION: it does not serve
  // the set. UNAVAILABLE: it is not there.
  // Needs no domain and no port of the route yet.
  static absl::StatusOr<std::unique_ptr<RdmaLease>> Open(const RdmaRoute& route,
                                                         MonotonicTime deadline);
  // The same in two steps, for a try that goes on while those who wait for it come and go. The
  // lease is of no use before AwaitOffer is OK. DEADLINE_EXCEEDED: the owner has not answered by
  // `deadline`, and may be awaited again; other errors, as Open's, end it.
  static absl::StatusOr<std::unique_ptr<RdmaLease>> Begin(const RdmaRoute& route);
  absl::Status AwaitOffer(MonotonicTime deadline);
  MonotonicTime begun() const { return begun_; }
  ~RdmaLease();  // detaches

  const v1::RdmaOffer& offer() const { return offer_; }
  // Who made it, and what of it that counts here.
  const RdmaOwnerFeatures& owner_features() const { return owner_features_; }
  // By the deadline, or the few seconds; UNAVAILABLE where those ended it.
  absl::StatusOr<v1::RdmaConnected> Connect(uint32_t port, const RdmaPeer& own,
                                            MonotonicTime deadline);
  absl::Status Declare(uint32_t number, const RdmaRegion& region, MonotonicTime deadline);
  absl::Status Forget(uint32_t number);

  bool ended() const { return ended_.load(std::memory_order_acquire); }
  // Why, once it ended; not OK then.
  absl::Status End() const;

 private:
  RdmaLease(const std::string& address, Clock& clock)
      : address_(address), clock_(clock), begun_(clock.Now()) {}
  // One call at a time: takes call_mutex_ for its round trip.
  absl::StatusOr<v1::RdmaAttachResponse> Call(const v1::RdmaAttachRequest& request,
                                              MonotonicTime deadline);
  void TakeEvents();
  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void WriteOutgoing() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string address_;
  Clock& clock_;
  const MonotonicTime begun_;
  std::unique_ptr<v1::Lookup::Stub> stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::RdmaAttachRequest, v1::RdmaAttachResponse>>
      stream_;
  rpc::MethodEvent<RdmaLease> started_{this, &RdmaLease::OnStarted},
      read_{this, &RdmaLease::OnRead}, written_{this, &RdmaLease::OnWritten},
      finished_{this, &RdmaLease::OnFinished};
  v1::RdmaAttachResponse incoming_;  // the thread's
  grpc::Status status_;              // the same
  v1::RdmaOffer offer_;
  RdmaOwnerFeatures owner_features_;

  Mutex call_mutex_;
  mutable Mutex mutex_;
  CondVar changed_;
  // Nothing is written before the stream has started, nor two at once.
  bool may_write_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<v1::RdmaAttachRequest> outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::RdmaAttachResponse> response_ ABSL_GUARDED_BY(mutex_);
  absl::Status given_up_ ABSL_GUARDED_BY(mutex_);  // a call was not answered in time
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> ended_{false};  // end_ is there
  std::thread reader_;
};

// How long an offered lease, or one that waits for its offer, is kept for the next asker: less than
// the owner has patience for one that is not connected (5 s).
inline constexpr absl::Duration kKeptLeaseTime = absl::Seconds(4);

// The lease of the next connection, of which askers come one after the other: where one has no more
// time the next goes on with what it has begun. One call at a time.
class RdmaNextLease {
 public:
  // By the deadline: UNAVAILABLE where that came before the owner's offer, and the lease is kept.
  // Other errors as RdmaLease::Open's. What is given out is kept no more.
  absl::StatusOr<std::unique_ptr<RdmaLease>> Await(const RdmaRoute& route, MonotonicTime deadline);

 private:
  std::unique_ptr<RdmaLease> kept_;
};

}  // namespace engram
