#include "server/rdma/endpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/memlock.h"

namespace engram {
absl::StatusOr<std::unique_ptr<RdmaEndpoint>> RdmaEndpoint::Start(
    const RdmaEndpointOptions& options, const TableSetRegistry* registry, GatherTeam* team) {
  std::unique_ptr<RdmaEndpoint> endpoint(new RdmaEndpoint(options, registry, team));
  for (const RdmaDeviceChoice& choice : options.devices) {
    ENGRAM_RETURN_IF_ERROR(endpoint->Open(choice));
  }
  return endpoint;
}

absl::Status RdmaEndpoint::Open(const RdmaDeviceChoice& choice) {
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const RdmaDevice> device, RdmaDevice::Open(choice));
  ENGRAM_RETURN_IF_ERROR(CheckMemlock(kRdmaSessionBytes));
  Nic nic;
  if (options_.reads) {
    ENGRAM_ASSIGN_OR_RETURN(nic.readers, RdmaDomain::Create(device));
  }
  ENGRAM_ASSIGN_OR_RETURN(nic.poller,
                          RdmaPoller::Start(std::move(device), static_cast<uint32_t>(nics_.size()),
                                            absl::FromChrono(options_.spin), *options_.clock));
  nic.metrics = options_.metrics->NewThread();
  nics_.push_back(std::move(nic));
  const MutexLock lock(tables_mutex_);
  tables_.emplace_back();
  return absl::OkStatus();
}

// At least one client's memory and that of all tables; where a device pages on demand, none.
absl::Status RdmaEndpoint::CheckPinned(size_t port, const TableSet& next) {
  if (nics_[port].readers->device()->pages_on_demand()) return absl::OkStatus();
  uint64_t pinned = kRdmaSessionBytes + next.resident_bytes();
  const MutexLock lock(tables_mutex_);
  for (const auto& tables : tables_[port]) pinned += tables->served().set->resident_bytes();
  return CheckMemlock(pinned);
}

absl::Status RdmaEndpoint::AddTables(const ServedSet& served) {
  // Its tables hold no rows that could be read: whoever wants to is told so (AttachReader).
  if (!served.set->row_source().resident()) return absl::OkStatus();
  for (size_t port = 0; port < nics_.size(); ++port) {
    if (nics_[port].readers == nullptr) continue;
    ENGRAM_RETURN_IF_ERROR(CheckPinned(port, *served.set));
    auto tables = RdmaTables::Register(nics_[port].readers, served);
    if (!tables.ok()) {
      return absl::Status(tables.status().code(),
                          absl::StrCat("table set ", served.set->name(),
                                       " for reading over RDMA: ", tables.status().message()));
    }
    const MutexLock lock(tables_mutex_);
    tables_[port].push_back(*std::move(tables));
  }
  return absl::OkStatus();
}

void RdmaEndpoint::ForgetTables(const std::string& set_id) {
  std::vector<std::shared_ptr<const RdmaTables>> gone;  // let go of after the lock
  const MutexLock lock(tables_mutex_);
  for (auto& sets : tables_) {
    const auto kept = std::partition(sets.begin(), sets.end(), [&](const auto& tables) {
      return tables->served().set->id() != set_id;
    });
    for (auto at = kept; at != sets.end(); ++at) gone.push_back(std::move(*at));
    sets.erase(kept, sets.end());
  }
}

absl::Status RdmaEndpoint::CheckSet(const TableSet& set) { return CheckResident(set, "over RDMA"); }

absl::Status RdmaEndpoint::CheckPlace(size_t port) const {
  if (port >= nics_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no port ", port, ": ", nics_.size(), " were offered"));
  }
  if (counts_.clients.load() >= kRdmaMaxClients) {
    return absl::ResourceExhaustedError(absl::StrCat(
        kRdmaMaxClients, " clients are attached to this engramd by RDMA: detach one first"));
  }
  return nics_[port].poller->device()->CheckPort();
}

absl::StatusOr<std::shared_ptr<RdmaSession>> RdmaEndpoint::Attach(size_t port,
                                                                  const std::string& set_id,
                                                                  const RdmaPeer& peer) {
  ENGRAM_RETURN_IF_ERROR(CheckPlace(port));
  ENGRAM_ASSIGN_OR_RETURN(ServedSet served, registry_->ResolveServed(set_id));
  ENGRAM_RETURN_IF_ERROR(CheckSet(*served.set));
  RdmaPoller& poller = *nics_[port].poller;
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<RdmaDomain> domain, RdmaDomain::Create(poller.device()));
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<RdmaSession> session,
                          RdmaSession::Create(std::move(domain), poller.channel(),
                                              RdmaServed{.served = std::move(served),
                                                         .team = team_,
                                                         .max_batch_rows = options_.max_batch_rows,
                                                         .metrics = nics_[port].metrics,
                                                         .clock = options_.clock},
                                              peer, &counts_));
  poller.Add(session);
  return session;
}

void RdmaEndpoint::Detach(size_t port, const std::shared_ptr<RdmaSession>& session) {
  nics_[port].poller->Remove(session);
}

absl::StatusOr<std::unique_ptr<RdmaReader>> RdmaEndpoint::AttachReader(size_t port,
                                                                       const std::string& set_id,
                                                                       const RdmaPeer& peer) {
  ENGRAM_RETURN_IF_ERROR(CheckPlace(port));
  ENGRAM_ASSIGN_OR_RETURN(const ServedSet served, registry_->ResolveServed(set_id));
  ENGRAM_RETURN_IF_ERROR(CheckSet(*served.set));
  const MutexLock lock(tables_mutex_);
  for (const std::shared_ptr<const RdmaTables>& tables : tables_[port]) {
    if (tables->served().set != served.set) continue;
    return RdmaReader::Create(tables, nics_[port].poller->channel(), peer, &counts_);
  }
  return absl::UnimplementedError(
      "this engramd lets nobody read its tables over RDMA: start it with --rdma-read");
}

}  // namespace engram
