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
// Ways. A store is asked over gRPC until a faster way is there (faster_ways.h opens it meanwhile),
// and again when that broke. Ways that have no thread of their own (rings, RDMA) are moved along by
// whoever waits, and by the driver's timer while nobody does.
//
// Lent memory. Copied rows: whoever copies asks this one's LandingGate first. The gate lets one
// attempt of a part through, as long as the ticket is IN_FLIGHT, one copy of a part at a time, and
// counts it as a writer of the ticket. So hedges and asking again are safe. Written rows (RDMA,
// rings): the attempt is a writer of the ticket from before it is submitted until one of two events
// proves that nothing of it is written any more: the way's ticket LANDED, or the way has reaped it
// (cluster_written.cc). Until then its part is asked for nowhere else.
//
// Contract: transport.h; the life of tickets: ticketed_transport.h. Threads: the driver's and that
// of faster_ways.h; the directory has its own. A batch by token ids goes to each store that takes
// those as the same tokens with its own columns, and to others by row ids (PartRequest): so every
// cluster takes them. Device memory (RegisterDmabuf) is not taken: a store must be reachable over
// gRPC at any moment, and that copies by the processor.
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
#include "client/cluster/faster_ways.h"
#include "client/cluster/registered_landings.h"
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
#include "memstore/os/adaptive_spin.h"
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
    // A faster way to the store there (faster_ways.h). Null: gRPC is the only one.
    FasterWays::Open open_faster = nullptr;
    // How long a thread that waits for rows of faster ways looks for them before it sleeps.
    absl::Duration spin = absl::ZeroDuration();
    std::shared_ptr<QueueDriver> driver;
    RouterOptions router;
    uint64_t seed = 0;            // of what is drawn at random
    Clock* clock = &RealClock();  // the driver's; outlives the transport
  };

  // FAILED_PRECONDITION: ClusterMap::Create's. INVALID_ARGUMENT: Addresser::Create's.
  // RESOURCE_EXHAUSTED: there is no thread.
  static absl::StatusOr<std::unique_ptr<Transport>> Create(Parts parts);
  ~ClusterTransport() override;

  const Capabilities& capabilities() const override { return capabilities_; }
  const AttachedTableSet& table_set() const override { return parts_.table_set; }
  std::string Describe() const override;
  std::optional<RouterCounters> routing() const override;
  std::optional<ClusterView> cluster() const override;
  // Passed on to the links that need it (registered_landings.h), now and when they are opened.
  absl::Status Register(absl::Span<std::byte> buffer) override;
  absl::Status Unregister(absl::Span<std::byte> buffer) override;
  // By the generations of the set's name among what stores say.
  absl::Status WaitSuperseded(std::stop_token stop) override;

 private:
  // A part that was sent to a store, until the ticket that it has there is reaped.
  struct Sent {
    TicketRef<ClusterBatch> batch = {};
    std::shared_ptr<Transport> over = nullptr;
    std::shared_ptr<TicketedTransport> written_over = nullptr;  // the same, where rows are written
    StoreId store = kNoStore;
    uint32_t part = 0;
    Ticket ticket = {};
    bool has_ticket = false;
    bool has_ended = false;             // there
    bool is_broken = false;             // the router was told so
    bool is_writer = false;             // of written rows, that may be written still
    absl::Status error = {};            // of written rows, how it ended
    std::vector<uint32_t> layers = {};  // of the batch's requests, as the store was asked for them
  };
  struct Link {
    std::string address;
    std::shared_ptr<Transport> transport;  // over gRPC; null: not needed yet
    FasterWay faster = {};
    uint64_t answers = 0;  // of the faster way, when it was looked at last
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
  void StopWriters(TicketedBatch& batch) override;

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
  // Notes what is sent, and fills part_request_.
  void NoteSent(const RouterAction& action, const TicketRef<ClusterBatch>& batch, Sent sent);
  // What part_request_ holds, as that transport takes it.
  absl::StatusOr<BatchRequest> RequestFor(const RouterAction& action, const ClusterBatch& batch,
                                          const Transport& over);
  absl::StatusOr<Ticket> SubmitPart(const RouterAction& action, const ClusterBatch& batch,
                                    Transport& over);
  absl::StatusOr<std::shared_ptr<Transport>> LinkTo(StoreId store);
  void SplitAgain(const RouterAction& action);
  void NotSent(const RouterAction& action, const absl::Status& why);
  void CancelSent(AttemptId attempt);
  void ReapSent(AttemptId attempt);
  void Forget(StoreId store);
  void CloseForgotten();
  TicketRef<ClusterBatch> BatchOf(uint64_t tag);
  // After the router was told something: whoever pumps next finds it.
  void WantPump() ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);

  // cluster_written.cc: faster ways, and what they write.
  void OnFasterOpened(StoreId store, const std::string& address, FasterWay way);
  // Null: the store has no faster way of this kind (any more).
  std::shared_ptr<TicketedTransport> FasterTo(StoreId store, LandingWay landing);
  // The store is asked over gRPC from now on, and the way opened again later. `breaks`: what is
  // under way over it is lost.
  void LeaveFaster(StoreId store, const TicketedTransport* way, const absl::Status& why,
                   bool breaks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);
  void CloseFaster(StoreId store, Link& link) ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);
  bool IsRegistered(const BatchRequest& request) const;
  void AwaitCopies(ClusterBatch& batch, uint32_t part) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False: it is to be sent over gRPC.
  bool SendMapped(const RouterAction& action, const TicketRef<ClusterBatch>& batch);
  void SendWritten(const RouterAction& action, const TicketRef<ClusterBatch>& batch);
  void NotWritten(const RouterAction& action, const TicketedTransport* way,
                  const absl::Status& why);
  void OnWrittenEnded(AttemptId attempt, const absl::Status& status);
  void EndWritten(AttemptId attempt, bool is_drained);
  void DrainSent(AttemptId attempt);
  // Takes what has come over ways without a thread, and tells the router which stores live. False:
  // nothing is under way over one.
  bool MoveWritten();
  void HearFaster(StoreId store, const TicketedTransport& way)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);
  std::string DescribeWays() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(router_mutex_);

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
  // Attempts whose rows are written, until they have landed or been reaped.
  std::vector<AttemptId> written_ ABSL_GUARDED_BY(router_mutex_);
  // Of the thread that pumps.
  Router::Actions doing_;
  std::vector<AttemptId> reaping_;
  PartRequest part_request_;

  RegisteredLandings landings_;
  std::atomic<uint32_t> device_links_{0};  // those that need registered landings
  std::unique_ptr<FasterWays> ways_;       // null: gRPC is the only way
  AdaptiveSpin written_spin_;              // of all who wait for written rows

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
