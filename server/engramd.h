// engramd's life: load and verify every table set, listen, serve, drain, end.
//
// Sockets are bound only once every set is served, so whoever can connect can look rows up.
// Its methods belong to one thread. Everything engramd is stands in one object.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/logger.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/base/wall_clock.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/os/posix_file.h"
#include "memstore/store/scrubber.h"
#include "memstore/store/table_set_registry.h"
#include "server/admin/admin_server.h"
#include "server/admin/history.h"
#include "server/admin/http_server.h"
#include "server/base/life_cycle.h"
#include "server/cluster/registration.h"
#include "server/cluster/store_status.h"
#include "server/config/config.h"
#include "server/grpc/event_loop.h"
#include "server/grpc/health.h"
#include "server/grpc/lookup_service.h"
#include "server/grpc/reflection.h"
#include "server/metrics/admin_refusals.h"
#include "server/metrics/attach_refusals.h"
#include "server/metrics/metrics.h"
#include "server/metrics/numa_census.h"
#include "server/metrics/snapshot.h"
#include "server/net/acceptor.h"
#include "server/net/connections.h"
#include "server/net/memory_guard.h"
#include "server/rdma/endpoint.h"
#include "server/security/access.h"
#include "server/security/tls.h"
#include "server/security/token_file.h"
#include "server/shm/endpoint.h"
#include "server/table_sets/publication_record.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

class Engramd {
 public:
  // Links the checkpoint where there is one, and loads every table set; nothing listens yet. Raises
  // the process's limit of open files. RaiseFileLimit, CheckBeforeLoading, LinkCheckpointSet and
  // TableSet::Load have the errors. All that it waits for or
  // counts down goes by `clock`, which outlives it; gRPC's own part by the machine's.
  static absl::StatusOr<std::unique_ptr<Engramd>> Load(const ServerConfig& config,
                                                       std::shared_ptr<spdlog::logger> log,
                                                       Clock* clock);
  // Binds every address and makes all ready to serve, and starts every thread that outlives the
  // call (so that a caller can block signals in all of them first), but takes no connection yet.
  // ListenSocket::Bind has the errors; nothing is left bound then.
  absl::Status Listen();
  // Takes connections from here on; Acceptor::Start has the errors.
  absl::Status Accept();
  // As bound: where port 0 was asked for, with the port that came of it.
  const std::vector<std::string>& addresses() const { return addresses_; }
  const LifeCycle& life() const { return life_; }
  TableSetManager& table_sets() { return *table_sets_; }
  // "HOST:PORT" of the pages over HTTP; empty: none.
  std::string http_address() const { return http_ == nullptr ? "" : http_->address(); }
  ServerSnapshot Snapshot() const;  // thread-safe
  // Null where it serves no RDMA.
  const RdmaEndpoint* rdma() const { return rdma_.get(); }

  // Reads the token file now, and logs what is used of it and of the certificates; by themselves
  // they are looked at every half second. Thread-safe while it serves.
  void ReadFilesAgain();

  // Says that it is not ready, by health, /readyz and to systemd, and goes on serving for `time` of
  // the clock, connections that come among it. Publishes nothing any more.
  void LameDuck(absl::Duration time);
  // Stops accepting, lets lookups under way finish for up to `grace`, then cancels them. Returns
  // as soon as none is left, whether or not idle clients let go of their connections.
  void Drain(absl::Duration grace);
  ~Engramd();  // drains without grace
  Engramd(const Engramd&) = delete;
  Engramd& operator=(const Engramd&) = delete;

 private:
  Engramd(const ServerConfig& config, std::shared_ptr<spdlog::logger> log, Clock* clock)
      : config_(config), log_(std::move(log)), clock_(clock), started_(clock->Now()) {}
  absl::Status StartGatherTeam();
  absl::Status OpenTls();
  absl::Status StartHttp();
  absl::Status OpenStateDirectory();
  absl::Status StartTableSets();
  absl::Status LoadTableSets();
  ServerSnapshot SnapshotWithPages();
  HttpServer::Site Pages();
  absl::Status StartScrubber();
  void OnDamage(const TableSet& set, const absl::Status& status);
  void ShowHealth() ABSL_LOCKS_EXCLUDED(health_mutex_);
  absl::Status StartAdmin();
  double LoadNow() const;  // thread-safe once it listens
  absl::Status StartService();
  absl::Status StartLoops();
  absl::Status StartMemoryGuard();
  // On the guard's thread.
  void MakeRoomInMemory(uint64_t bytes);
  void LookAtConnections();
  void LogEndedForFrames();
  ConnectionsEnded CountConnectionsEnded() const;
  Acceptor::Take TakeConnections();
  absl::Status StartRegistration();
  void EndRegistration();
  absl::Status StartShm();
  absl::Status StartRdma();

  const ServerConfig config_;
  const std::shared_ptr<spdlog::logger> log_;
  Clock* const clock_;
  const MonotonicTime started_;
  const absl::Time start_time_ = WallNow();  // for people's eyes
  int fd_limit_ = 0;                         // for connections
  TableSetRegistry registry_{*clock_};
  std::unique_ptr<TokenFile> tokens_;  // null where calls need none
  std::unique_ptr<AccessControl> access_;
  // Set before others may look; null where no port speaks it.
  std::shared_ptr<ServerTls> tls_;
  std::shared_ptr<ServerTls> admin_tls_;
  LifeCycle life_;
  FileDescriptor state_directory_;             // held while it lives, where there is one
  std::unique_ptr<PublicationRecord> record_;  // null where publications are not kept
  // Of the pointers that Snapshot looks at, which are set while others may look. The thread that
  // Engramd's methods belong to reads them without it.
  mutable Mutex watched_mutex_;
  std::vector<std::string> shown_addresses_ ABSL_GUARDED_BY(watched_mutex_);  // addresses_
  StartLoads start_loads_ ABSL_GUARDED_BY(watched_mutex_);
  const std::shared_ptr<Metrics> metrics_ = std::make_shared<Metrics>();
  AttachRefusals attach_refusals_{log_, clock_};
  NumaCensus numa_census_{clock_};
  AdminRefusals admin_refusals_{log_, clock_};
  std::unique_ptr<GatherTeam> team_;
  std::unique_ptr<RdmaEndpoint> rdma_;           // null where there is none
  std::unique_ptr<TableSetManager> table_sets_;  // after what it calls back, before what uses it
  std::unique_ptr<ShmEndpoint> shm_;             // null while there is none
  std::unique_ptr<StoreStatus> store_status_;
  std::unique_ptr<LookupService> service_;
  Mutex health_mutex_;  // held while health is found out and shown, so that the last look is shown
  std::unique_ptr<Health> health_;
  std::unique_ptr<Reflection> reflection_;
  grpc::AsyncGenericService unknown_methods_;
  Mutex drain_mutex_;
  CondVar drained_;  // a loop has no call left that a drain waits for
  ServingContext context_;
  std::vector<std::unique_ptr<EventLoop>> loops_;
  std::unique_ptr<grpc::Server> server_;  // null while it does not listen
  // To server_: in the clear, and by TLS (null where no port speaks it).
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> plain_connections_;
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> tls_connections_;
  Connections connections_;  // to server_
  uint64_t call_memory_bytes_ = 0;
  // The guard's.
  MonotonicTime connections_ended_, next_memory_log_, next_frames_log_, next_unread_look_;
  uint64_t logged_for_frames_ = 0;
  std::unique_ptr<MemoryGuard> memory_guard_;
  std::vector<ListenSocket> sockets_;   // until Accept
  std::unique_ptr<Scrubber> scrubber_;  // since Accept
  std::unique_ptr<AccessControl> admin_access_;
  std::unique_ptr<AdminServer> admin_ ABSL_GUARDED_BY(health_mutex_);  // null where there is none
  std::unique_ptr<History> history_;
  std::unique_ptr<HttpServer> http_;            // null where there is none
  std::unique_ptr<Acceptor> acceptor_;          // since Accept
  std::unique_ptr<Registration> registration_;  // since Accept; null where it does not register
  std::vector<std::string> addresses_;
};

}  // namespace engram
