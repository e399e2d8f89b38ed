// Rows from a cluster of stores that have a table set together: each batch is split by what they
// hold, its parts are in flight at once, and it lands whole or not at all.
//
// What is asked of which store, what is asked again, when and how often, is the Router's to say
// (memstore/cluster/router.h); this class drives it. It tells the router what happened, and does
// what comes back:
//
//   Submit ─► BatchSplitter ─► Router ─► kSend ─► the store's transport ─► gate, rows, sink ─┐
//     ▲                          ▲                                                           │
//     └── kLayer, kLanded, kFailed └────────── MayLand, LayerLanded, Reply ◄─────────────────┘
//
// Lent memory. A store's transport copies rows by itself, and asks this one's LandingGate first:
// the gate lets one attempt of a part through, as long as the ticket is IN_FLIGHT, and counts it as
// a writer of the ticket. All stores' transports have one queue driver, which tells one event at a
// time: so a copy that was let through is over before another attempt asks. Hedges and asking again
// are safe by that.
//
// Contract: transport.h; the life of tickets: ticketed_transport.h. Threads: none of its own beside
// the driver's; the directory has its own. Stores are asked over gRPC. A batch by token ids goes to
// each store that takes those as the same tokens with its own columns, and to others by row ids
// (PartRequest): so every cluster takes them.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cluster/cluster_batch.h"
#include "client/cluster/store_directory.h"
#include "client/transport/grpc/queue_driver.h"
#include "client/transport/security_options.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/cluster/router.h"
#include "memstore/cluster/split.h"
#include "proto/rpc/queue_event.h"

namespace engram {

class ClusterTransport final : public TicketedTransport,
                               private CompletionSink,
                               private LandingGate,
                               private StoreDirectory::Listener {
 public:
  // What it is made from; attaching (cluster_attach.h) has the real ones.
  struct Parts {
    AttachedTableSet table_set;
    uint64_t max_batch_rows = 0;  // that each store takes
    std::string owner_version;
    std::unique_ptr<StoreDirectory> directory;
    // A transport to the store at an address, made without waiting for it, that asks
    // BatchRequest::gate and fails at once what its store does not answer. Its events are told by
    // `driver`.
    std::function<absl::StatusOr<std::unique_ptr<Transport>>(const std::string& address)> open;
    std::shared_ptr<QueueDriver> driver;
    RouterOptions router;
    uint64_t seed = 0;            // of what is drawn at random
    Clock* clock = &RealClock();  // the driver's; outlives the transport
  };

  // FAILED_PRECONDITION: ClusterMap::Create's. INVALID_ARGUMENT: Addresser::Create's.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(Parts parts);
  ~ClusterTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return parts_.table_set; }
  std::string Describe() const override;
  std::optional<RouterCounters> routing() const override;
  absl::Status Register(absl::Span<std::byte>) override { return absl::OkStatus(); }
  absl::Status Unregister(absl::Span<std::byte>) override { return absl::OkStatus(); }
  // By the generations of the set's name among what stores say.
  absl::Status WaitSuperseded(std::stop_token stop) override;

 private:
  // A part that was sent to a store, until the ticket that it has there is reaped.
  struct Sent {
    TicketRef<ClusterBatch> batch;
    std::shared_ptr<Transport> over;
    StoreId store = kNoStore;
    Ticket ticket;
    bool has_ticket = false;
    bool has_ended = false;        // there
    bool is_broken = false;        // the router was told so
    std::vector<uint32_t> layers;  // of the batch's requests, as the store was asked for them
  };
  struct Link {
    std::string address;
    std::shared_ptr<Transport> transport;
  };
  using ClusterTimer = rpc::MethodEvent<ClusterTransport>;

  explicit ClusterTransport(Parts parts);

  // cluster_transport.cc: tickets, maps and time.
  absl::Status Prepare(const BatchRequest& request) override;
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<ClusterBatch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Advance(TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void TryCancel(TicketedBatch& batch) override;

  void StoreSpoke(const std::string& address) override;
  void HoldingsChanged() override;
  // A new map of what is heard now.
  absl::Status TakeHoldings();

  void Tick();
  void WakeAt(MonotonicTime at);
  void WakeAtNextTick();
  void WakeSoon();
  void OnWake(bool ok);

  // cluster_sends.cc: what the router wants done, and what comes of it.
  void OnLayerLanded(uint64_t attempt, size_t index) override;
  void OnTicketEnded(uint64_t attempt, const absl::Status& status) override;
  bool BeginLanding(uint64_t attempt) override;
  void EndLanding(uint64_t attempt) override;

  // Does all that is to be done, unless another thread is at it, which then does it.
  void Pump();
  // True: somebody who waits for a ticket may have what it waits for.
  bool Do(const RouterAction& action);
  void Send(const RouterAction& action);
  void FillSent(const RouterAction& action, const ClusterBatch& batch, Sent* sent,
                PartRequest* request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);
  absl::StatusOr<Ticket> SubmitPart(const RouterAction& action, const ClusterBatch& batch,
                                    Transport& over);
  absl::StatusOr<std::shared_ptr<Transport>> LinkTo(StoreId store);
  void NotSent(const RouterAction& action, const absl::Status& why);
  void CancelSent(AttemptId attempt);
  void ReapSent(AttemptId attempt);
  void Forget(StoreId store);
  void CloseForgotten();
  TicketRef<ClusterBatch> BatchOf(uint64_t tag);
  // After the router was told something: whoever pumps next finds it.
  void WantPump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);

  const Parts parts_;
  const Capabilities capabilities_;
  PartAddressers addressers_;  // from Create on
  std::mt19937_64 random_;

  Mutex take_mutex_;
  Mutex split_mutex_;
  std::unique_ptr<BatchSplitter> splitter_ ABSL_GUARDED_BY(split_mutex_);

  // Held for calls of the router's alone: taken last of all, mutex_ and the driver's lock included.
  mutable Mutex router_mutex_;
  Router router_ ABSL_GUARDED_BY(router_mutex_);
  Router::Actions actions_ ABSL_GUARDED_BY(router_mutex_);
  absl::flat_hash_map<AttemptId, std::unique_ptr<Sent>> sent_ ABSL_GUARDED_BY(router_mutex_);
  std::vector<AttemptId> ended_ ABSL_GUARDED_BY(router_mutex_);  // to be reaped
  std::map<StoreId, Link> links_ ABSL_GUARDED_BY(router_mutex_);
  std::vector<std::shared_ptr<Transport>> forgotten_ ABSL_GUARDED_BY(router_mutex_);
  // Stores that have not spoken since the router asked for a map.
  std::set<std::string> asked_ ABSL_GUARDED_BY(router_mutex_);
  bool pumping_ ABSL_GUARDED_BY(router_mutex_) = false;
  // Of the thread that pumps.
  Router::Actions doing_;
  std::vector<AttemptId> reaping_;
  PartRequest part_request_;

  std::atomic<bool> wants_pump_{false};
  std::atomic<uint32_t> waiting_{0};  // threads in the driver, who pump when there is something

  Mutex holdings_mutex_;
  CondVar holdings_changed_;
  uint64_t holdings_version_ ABSL_GUARDED_BY(holdings_mutex_) = 0;

  Mutex timer_mutex_;  // before the driver's
  ClusterTimer wake_event_{this, &ClusterTransport::OnWake};
  bool wake_pending_ ABSL_GUARDED_BY(timer_mutex_) = false;
  MonotonicTime wake_at_ ABSL_GUARDED_BY(timer_mutex_) = MonotonicTime::Infinite();
  bool ending_ ABSL_GUARDED_BY(timer_mutex_) = false;
  std::atomic<bool> wake_told_{true};  // no timer is pending
};

}  // namespace engram
