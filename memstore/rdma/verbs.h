// Owners of verbs objects: protection domain, memory region, completion channel and queue, queue
// pair.
//
// Each frees what it holds in its destructor; what a thing was made on is kept alive by it or,
// where said so, outlives it. Thread-compatible; verbs themselves are thread-safe. Failures are
// statuses that name the call, the reason and, for lack of memory to pin, the fix.
#pragma once

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/rdma/device.h"

namespace engram {

class RdmaDomain {
 public:
  static absl::StatusOr<std::shared_ptr<RdmaDomain>> Create(
      std::shared_ptr<const RdmaDevice> device);
  ~RdmaDomain() { ibv_dealloc_pd(domain_); }
  RdmaDomain(const RdmaDomain&) = delete;
  RdmaDomain& operator=(const RdmaDomain&) = delete;

  ibv_pd* get() const { return domain_; }
  const std::shared_ptr<const RdmaDevice>& device() const { return device_; }

 private:
  RdmaDomain(std::shared_ptr<const RdmaDevice> device, ibv_pd* domain)
      : device_(std::move(device)), domain_(domain) {}
  const std::shared_ptr<const RdmaDevice> device_;
  ibv_pd* const domain_;
};

// Registered memory, which is the caller's and outlives this.
class RdmaRegion {
 public:
  // `access`: IBV_ACCESS_ flags. RESOURCE_EXHAUSTED when the memory can't be pinned.
  static absl::StatusOr<RdmaRegion> Register(std::shared_ptr<RdmaDomain> domain,
                                             absl::Span<std::byte> memory, int access);
  // The same of a device's memory: `fd` is its dma-buf, of which `memory`, as the device addresses
  // it, begins at `offset`. UNIMPLEMENTED where the card, its driver or the kernel can't.
  static absl::StatusOr<RdmaRegion> RegisterDmabuf(std::shared_ptr<RdmaDomain> domain, int fd,
                                                   uint64_t offset, absl::Span<std::byte> memory,
                                                   int access);
  RdmaRegion() = default;

  std::byte* data() const { return memory_; }
  uint64_t bytes() const { return region_->length; }
  uint32_t local_key() const { return region_->lkey; }
  uint32_t remote_key() const { return region_->rkey; }

 private:
  struct Free {
    void operator()(ibv_mr* region) const { ibv_dereg_mr(region); }
  };
  RdmaRegion(std::shared_ptr<RdmaDomain> domain, std::byte* memory, ibv_mr* region)
      : domain_(std::move(domain)), memory_(memory), region_(region) {}
  std::shared_ptr<RdmaDomain> domain_;
  std::byte* memory_ = nullptr;
  std::unique_ptr<ibv_mr, Free> region_;
};

// Registered memory of its own.
class RdmaBuffer {
 public:
  static absl::StatusOr<RdmaBuffer> Create(std::shared_ptr<RdmaDomain> domain, uint64_t bytes,
                                           int access);
  RdmaBuffer() = default;
  std::byte* data() const { return memory_.get(); }
  uint32_t local_key() const { return region_.local_key(); }
  const RdmaRegion& region() const { return region_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  RdmaRegion region_;  // goes first
};

// Where completion queues say that they are no longer empty.
class RdmaChannel {
 public:
  static absl::StatusOr<std::shared_ptr<RdmaChannel>> Create(
      std::shared_ptr<const RdmaDevice> device);
  ~RdmaChannel() { ibv_destroy_comp_channel(channel_); }
  RdmaChannel(const RdmaChannel&) = delete;
  RdmaChannel& operator=(const RdmaChannel&) = delete;

  ibv_comp_channel* get() const { return channel_; }
  int fd() const { return channel_->fd; }
  // Takes what events there are; never blocks.
  void TakeEvents();

 private:
  RdmaChannel(std::shared_ptr<const RdmaDevice> device, ibv_comp_channel* channel)
      : device_(std::move(device)), channel_(channel) {}
  const std::shared_ptr<const RdmaDevice> device_;
  ibv_comp_channel* const channel_;
};

class RdmaCompletions {
 public:
  static absl::StatusOr<RdmaCompletions> Create(std::shared_ptr<RdmaChannel> channel,
                                                const RdmaDevice& device, uint32_t entries);
  RdmaCompletions() = default;

  ibv_cq* get() const { return queue_.get(); }
  // The number taken; -1 when the queue is broken.
  int Poll(absl::Span<ibv_wc> completions) const {
    return ibv_poll_cq(queue_.get(), static_cast<int>(completions.size()), completions.data());
  }
  // The next completion after this becomes an event; poll once more before sleeping.
  bool Arm() const { return ibv_req_notify_cq(queue_.get(), 0) == 0; }

 private:
  struct Free {
    void operator()(ibv_cq* queue) const { ibv_destroy_cq(queue); }
  };
  RdmaCompletions(std::shared_ptr<RdmaChannel> channel, ibv_cq* queue)
      : channel_(std::move(channel)), queue_(queue) {}
  std::shared_ptr<RdmaChannel> channel_;
  std::unique_ptr<ibv_cq, Free> queue_;
};

// What one end tells the other of its queue pair.
struct RdmaPeer {
  uint32_t queue_pair = 0;
  uint32_t first_sequence = 0;
  RdmaGid gid{};
  uint16_t lid = 0;
  uint32_t mtu = IBV_MTU_1024;  // an ibv_mtu
  uint32_t reads = 1;           // that this end answers, and asks, at once
};

struct RdmaQueueSizes {
  uint32_t sends = 1;
  uint32_t receives = 1;
  uint32_t inline_bytes = 0;  // as many as the device has, up to this
  uint32_t pieces = 1;        // of memory that one send is put together from
};

// A reliable connection's end.
class RdmaQueuePair {
 public:
  // Ready to have receives posted. `remote_access`: IBV_ACCESS_REMOTE_ flags, what the peer may do.
  static absl::StatusOr<RdmaQueuePair> Create(std::shared_ptr<RdmaDomain> domain,
                                              const RdmaCompletions& completions,
                                              const RdmaQueueSizes& sizes, int remote_access);
  RdmaQueuePair() = default;

  ibv_qp* get() const { return pair_.get(); }
  uint32_t inline_bytes() const { return inline_bytes_; }
  // For the peer. Sequence numbers are random, so that packets of an earlier connection are not
  // taken for this one's.
  RdmaPeer Own() const;
  // Ready to send and to receive. INVALID_ARGUMENT: what the peer said is not possible.
  absl::Status Connect(const RdmaPeer& peer);
  // A receive into bytes [offset, offset + bytes) of `buffer`, which outlives it; its completion
  // has `wr_id`. INTERNAL when the device refuses.
  absl::Status PostReceive(uint64_t wr_id, const RdmaBuffer& buffer, uint64_t offset,
                           uint32_t bytes) const;
  // Sends, writes or reads that are linked by `next`, with one doorbell. INTERNAL names `what` when
  // the device refuses.
  absl::Status PostSends(ibv_send_wr* first, absl::string_view what) const;
  // From here on nothing that the peer sends reaches memory, and all that was posted completes with
  // an error.
  void MoveToError() const;

 private:
  struct Free {
    void operator()(ibv_qp* pair) const { ibv_destroy_qp(pair); }
  };
  std::shared_ptr<RdmaDomain> domain_;
  std::unique_ptr<ibv_qp, Free> pair_;
  uint32_t inline_bytes_ = 0;
  uint32_t first_sequence_ = 0;
};

// What a completion that failed means, for a message.
std::string RdmaFailure(const ibv_wc& completion);

}  // namespace engram
