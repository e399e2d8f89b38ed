// engramd's end of RDMA: the devices it serves on, each with a polling thread, and who is attached.
//
// Connections are set up over gRPC (attach_rdma_call.h), which calls Attach and Detach; from then
// on the polling thread serves the client. Thread-safe after Start; it outlives its clients' calls.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/rdma/device.h"
#include "memstore/store/table_set_registry.h"
#include "server/rdma/poller.h"
#include "server/rdma/session.h"
#include "server/rdma/tables.h"

namespace engram {

struct RdmaEndpointOptions {
  std::vector<RdmaDeviceChoice> devices;  // at least one
  bool reads = false;                     // registers the tables, for READ mode
  uint64_t max_batch_rows = 0;
  // How long a polling thread looks for requests before it sleeps.
  std::chrono::microseconds spin{50};
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  Clock* clock = &RealClock();  // outlives the endpoint
};

class RdmaEndpoint {
 public:
  // RdmaDevice::Open and CheckMemlock have the errors. `registry` and `team` outlive it.
  static absl::StatusOr<std::unique_ptr<RdmaEndpoint>> Start(const RdmaEndpointOptions& options,
                                                             const TableSetRegistry* registry,
                                                             GatherTeam* team);

  // Registers the tables of a set that is about to be published, where clients may read them (and
  // CheckSet is OK).
  // RESOURCE_EXHAUSTED: they can't be pinned.
  absl::Status AddTables(const ServedSet& served);
  // Nobody reads the set any more: its memory is let go of with its last reader.
  void ForgetTables(const std::string& set_id);

  size_t ports() const { return nics_.size(); }
  const RdmaDevice& port(size_t i) const { return *nics_[i].poller->device(); }
  bool reads() const { return options_.reads; }
  uint64_t max_batch_rows() const { return options_.max_batch_rows; }

  // FAILED_PRECONDITION: rows of this set are not in its tables, from which clients are served.
  static absl::Status CheckSet(const TableSet& set);
  // FAILED_PRECONDITION: the set is not served, or CheckSet; RESOURCE_EXHAUSTED: enough clients are
  // attached; INVALID_ARGUMENT: no such port.
  absl::StatusOr<std::shared_ptr<RdmaSession>> Attach(size_t port, const std::string& set_id,
                                                      const RdmaPeer& peer);
  void Detach(size_t port, const std::shared_ptr<RdmaSession>& session);
  absl::StatusOr<std::unique_ptr<RdmaReader>> AttachReader(size_t port, const std::string& set_id,
                                                           const RdmaPeer& peer);

  // Attached ones, readers too, and those that a thread has not let go of yet.
  uint32_t clients() const { return counts_.clients.load(); }
  const RdmaOwnerCounts& counts() const { return counts_; }

 private:
  struct Nic {
    std::shared_ptr<ThreadMetrics> metrics;  // the poller's
    std::unique_ptr<RdmaPoller> poller;
    std::shared_ptr<RdmaDomain> readers;  // the tables' domain; null where nobody reads them
  };

  RdmaEndpoint(const RdmaEndpointOptions& options, const TableSetRegistry* registry,
               GatherTeam* team)
      : options_(options), registry_(registry), team_(team) {}
  absl::Status Open(const RdmaDeviceChoice& choice);
  absl::Status CheckPinned(size_t port, const TableSet& next);
  // Whether a client may attach to the port.
  absl::Status CheckPlace(size_t port) const;

  const RdmaEndpointOptions options_;
  const TableSetRegistry* const registry_;
  GatherTeam* const team_;
  RdmaOwnerCounts counts_;
  std::vector<Nic> nics_;  // one a device, as they stand after Start
  Mutex tables_mutex_;
  // Of each device: the sets that clients may read, one after the other.
  std::vector<std::vector<std::shared_ptr<const RdmaTables>>> tables_
      ABSL_GUARDED_BY(tables_mutex_);
};

}  // namespace engram
