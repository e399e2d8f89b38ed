// One RDMA connection of a client: the lease, the queue pair, the buffers that requests are sent
// from and refusals received in.
//
// All is posted and registered when it opens; sending a request then allocates nothing. Not
// thread-safe, but for what the lease does.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/transport/rdma/rdma_lease.h"
#include "client/transport/rdma/request_way.h"
#include "memstore/base/clock.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/verbs.h"

namespace engram {

// The device that leads to one of the ports of the offer, and its place there; `device` names one
// (DEV[:PORT[:GID]]) or is empty. NOT_FOUND says what was tried.
absl::StatusOr<std::pair<std::shared_ptr<const RdmaDevice>, uint32_t>> ChooseRdmaDevice(
    const v1::RdmaOffer& offer, absl::string_view device);

class RdmaConnection final : public RdmaLink {
 public:
  // Over a lease that is open and not connected yet; a round trip, by the deadline. RdmaLease and
  // RdmaDevice have the errors.
  static absl::StatusOr<std::shared_ptr<RdmaConnection>> Connect(const RdmaRoute& route,
                                                                 std::unique_ptr<RdmaLease> lease,
                                                                 MonotonicTime deadline);
  ~RdmaConnection() override;

  void Close() override;
  absl::Status Ended() const override;
  bool Arm() override { return completions_.Arm(); }
  void Sleep(absl::Duration most) override;
  RdmaCounts Counts() const override { return counts_; }
  void BreakForTest() override { pair_.MoveToError(); }

  RdmaLease& lease() { return *lease_; }
  const RdmaOwnerFeatures& owner_features() const { return lease_->owner_features(); }
  const v1::RdmaConnected& connected() const { return connected_; }
  const RdmaCompletions& completions() const { return completions_; }

  // Takes what has completed, a few at a time; false when there was nothing. An error: `take`'s, or
  // UNAVAILABLE when the queue pair broke.
  absl::StatusOr<bool> TakeCompletions(absl::FunctionRef<absl::Status(const ibv_wc&)> take);

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
  absl::Status PostReceive(uint64_t wr_id) {
    return pair_.PostReceive(wr_id, receives_, wr_id * kRdmaRefusalBytes, kRdmaRefusalBytes);
  }

  // Posts `count` reads, linked by `next`, with one doorbell. INTERNAL when the device refuses.
  absl::Status PostReads(ibv_send_wr* first, uint32_t count);

 private:
  RdmaConnection(const RdmaRoute& route, std::unique_ptr<RdmaLease> lease)
      : address_(route.grpc->address()), clock_(route.grpc->clock()), lease_(std::move(lease)) {}
  absl::Status Open(const RdmaRoute& route, MonotonicTime deadline);

  const std::string address_;  // of the owner, for messages
  Clock& clock_;
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
