// The owner's session with one RDMA client: its queue pair, what it sent, what is being gathered
// for it.
//
// Everything is its own - protection domain, queues, buffers, the landing windows it declared - so
// that its keys open nothing of another's, and all goes when the object goes. The polling thread
// calls Advance; the thread that attached it declares windows and lets go of it; both hold a
// reference. Requests are served in the order in which they came, a slab at a time, so that one
// client's large batch does not hold up another's. Ids stay in the buffer that they were received
// in: it is not posted again before the request is served, and no key gives the client access to
// it. After the first requests nothing allocates but error messages.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/reply_ring.h"
#include "memstore/rdma/request.h"
#include "memstore/rdma/verbs.h"
#include "memstore/store/table_set_registry.h"
#include "server/lookup/prepared_lookup.h"
#include "server/metrics/metrics.h"

namespace engram {

// What all clients of an endpoint did. Each number is written by polling threads alone.
struct RdmaOwnerCounts {
  std::atomic<uint32_t> clients{0};  // attached now
  std::atomic<uint64_t> requests{0};
  std::atomic<uint64_t> refusals{0};
  std::atomic<uint64_t> writes{0};      // with and without immediates, and refusals
  std::atomic<uint64_t> immediates{0};  // layers, or whole requests, that have landed
  std::atomic<uint64_t> doorbells{0};
  std::atomic<uint64_t> completions{0};
};

// Memory of the client's that rows may be written to.
struct RdmaClientWindow {
  uint32_t number = 0;
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t key = 0;
};

struct RdmaServed {
  ServedSet served;
  GatherTeam* team = nullptr;  // outlives the client
  uint64_t max_batch_rows = 0;
  std::shared_ptr<ThreadMetrics> metrics;  // the polling thread's
  Clock* clock = &RealClock();             // outlives the client
};

class RdmaSession {
 public:
  // Connected, with its receives posted. RESOURCE_EXHAUSTED: no more of what the device or the
  // limit of pinned memory has; INVALID_ARGUMENT: the peer's queue pair is none.
  static absl::StatusOr<std::shared_ptr<RdmaSession>> Create(std::shared_ptr<RdmaDomain> domain,
                                                             std::shared_ptr<RdmaChannel> channel,
                                                             RdmaServed served,
                                                             const RdmaPeer& peer,
                                                             RdmaOwnerCounts* counts);
  ~RdmaSession();
  RdmaSession(const RdmaSession&) = delete;
  RdmaSession& operator=(const RdmaSession&) = delete;

  RdmaPeer Own() const { return pair_.Own(); }

  // Thread-safe. INVALID_ARGUMENT: a number in use, no bytes, beyond any memory;
  // RESOURCE_EXHAUSTED: too many.
  absl::Status Declare(const RdmaClientWindow& window);
  absl::Status Forget(uint32_t number);
  // Thread-safe: further requests are refused with UNAVAILABLE.
  void Drain() { draining_.store(true); }
  // Whether nothing is under way. A request that is on its way is not seen.
  bool Idle() const { return idle_.load(); }
  // Thread-safe: not OK once the queue pair broke, with the reason; it is served no more.
  absl::Status Health() const;

  // The polling thread's: takes what came and gathers up to a slab. False when there was nothing to
  // do.
  bool Advance();
  bool Arm() const { return completions_.Arm(); }
  bool broken() const { return broken_; }

 private:
  struct Waiting {
    uint16_t receive = 0;
    uint32_t bytes = 0;
    MonotonicTime since;
  };
  // Where a layer of the request under way lands.
  struct Target {
    RdmaPlace place;
    uint64_t address = 0;  // of its first row
    uint32_t key = 0;
  };
  // Writes and what of the ring they hold, until they are acknowledged.
  struct Posted {
    uint64_t ring_head = 0;
    uint32_t writes = 0;
    MonotonicTime since;
  };

  RdmaSession(RdmaServed served, RdmaOwnerCounts* counts);
  absl::Status Open(std::shared_ptr<RdmaDomain> domain, std::shared_ptr<RdmaChannel> channel,
                    const RdmaPeer& peer);
  absl::Status PostReceive(uint16_t receive) {
    return pair_.PostReceive(receive, receives_, uint64_t{receive} * kRdmaRequestBytes,
                             kRdmaRequestBytes);
  }
  void TakeCompletion(const ibv_wc& completion);
  void Break(absl::Status status);

  bool StartNext();
  absl::Status Start(const Waiting& waiting);
  absl::Status Prepare();
  absl::Status PrepareTokens();
  absl::Status FindTargets();
  void CountAnswer() const;
  void RecordSince(Stage stage, MonotonicTime since) const;
  absl::Status MayGoOn() const;
  bool Turn();
  bool AllGathered() const;
  uint64_t NextBytes() const;
  uint64_t FillTile(uint64_t room);
  uint64_t FillRows(uint64_t room);
  void AddWrite(uint64_t ring_offset, uint64_t bytes, const Target& target, uint64_t at);
  void MarkLanded(uint8_t layer);
  void Refuse(const absl::Status& status);
  void Finish();
  void Post();

  const RdmaServed served_;
  const Lease lease_;
  const Clock& clock_;
  RdmaOwnerCounts* const counts_;
  RdmaBuffer receives_, rows_, refusals_;
  RdmaCompletions completions_;
  RdmaQueuePair pair_;  // goes before what it uses

  mutable Mutex mutex_;
  std::vector<RdmaClientWindow> windows_ ABSL_GUARDED_BY(mutex_);
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> draining_{false};
  std::atomic<bool> idle_{true};

  // The polling thread's.
  bool broken_ = false;
  std::array<Waiting, kRdmaCredits> waiting_;  // a ring; the client has no more credits
  uint32_t waiting_head_ = 0, waiting_tail_ = 0;
  ReplyRing ring_{kRdmaRingBytes};
  std::array<Posted, kRdmaOwnerSendQueue> posted_;  // a ring
  uint32_t posted_head_ = 0, posted_tail_ = 0;
  uint32_t writes_out_ = 0;
  uint32_t refusals_sent_ = 0;

  bool serving_ = false;  // a request is under way:
  Waiting current_;
  RdmaRequestView view_;
  PreparedLookup lookup_;
  std::vector<WantedRows> wanted_;
  std::array<uint32_t, kRdmaRequestLayers> wanted_layers_;
  std::array<ColumnSlice, kRdmaRequestLayers> slices_;
  std::array<Target, kRdmaRequestLayers> targets_;
  int tile_ = -1;     // the layer that a tile begins with
  size_t layer_ = 0;  // what is gathered next
  uint64_t row_ = 0;  // of that layer; of a tile, the group

  std::array<ibv_send_wr, kRdmaTurnWrites> writes_;
  std::array<ibv_sge, kRdmaTurnWrites> pieces_;
  uint32_t filled_ = 0;  // of writes_, not posted yet
};

// What each client pins.
inline constexpr uint64_t kRdmaSessionBytes =
    uint64_t{kRdmaCredits} * kRdmaRequestBytes + kRdmaRingBytes + kRdmaCredits * kRdmaRefusalBytes;

}  // namespace engram
