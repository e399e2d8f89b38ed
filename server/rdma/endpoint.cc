#include "server/rdma/endpoint.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/rdma/limits.h"
#include "memstore/rdma/memlock.h"

namespace engram {

absl::StatusOr<std::unique_ptr<RdmaEndpoint>> RdmaEndpoint::Start(
    const RdmaEndpointOptions& options, const Store* store, GatherTeam* team) {
  std::unique_ptr<RdmaEndpoint> endpoint(new RdmaEndpoint(options, store, team));
  for (const RdmaDeviceChoice& choice : options.devices) {
    if (absl::Status status = endpoint->Open(choice); !status.ok()) return status;
  }
  return endpoint;
}

absl::Status RdmaEndpoint::Open(const RdmaDeviceChoice& choice) {
  absl::StatusOr<std::shared_ptr<const RdmaDevice>> device = RdmaDevice::Open(choice);
  if (!device.ok()) return device.status();
  if (absl::Status status = CheckMemlock(kRdmaClientBytes); !status.ok()) return status;
  Nic nic;
  if (options_.reads) {
    absl::StatusOr<std::shared_ptr<RdmaDomain>> domain = RdmaDomain::Create(*device);
    if (!domain.ok()) return domain.status();
    nic.readers = *std::move(domain);
  }
  absl::StatusOr<std::unique_ptr<RdmaPoller>> poller =
      RdmaPoller::Start(*std::move(device), static_cast<uint32_t>(nics_.size()), options_.spin);
  if (!poller.ok()) return poller.status();
  nic.poller = *std::move(poller);
  nic.metrics = options_.metrics->NewThread();
  nics_.push_back(std::move(nic));
  return absl::OkStatus();
}

// At least one client's memory and that of all tables; where a device pages on demand, none.
absl::Status RdmaEndpoint::CheckPinned(const Nic& nic, const TableSet& next) {
  if (nic.readers->device()->pages_on_demand()) return absl::OkStatus();
  uint64_t pinned = kRdmaClientBytes + next.resident_bytes();
  const std::lock_guard<std::mutex> lock(tables_mutex_);
  for (const auto& tables : nic.tables) pinned += tables->served().set->resident_bytes();
  return CheckMemlock(pinned);
}

absl::Status RdmaEndpoint::AddTables(const ServedSet& served) {
  for (Nic& nic : nics_) {
    if (nic.readers == nullptr) continue;
    if (absl::Status status = CheckPinned(nic, *served.set); !status.ok()) return status;
    auto tables = RdmaTables::Register(nic.readers, served);
    if (!tables.ok()) {
      return absl::Status(tables.status().code(),
                          absl::StrCat("table set ", served.set->name(),
                                       " for reading over RDMA: ", tables.status().message()));
    }
    const std::lock_guard<std::mutex> lock(tables_mutex_);
    nic.tables.push_back(*std::move(tables));
  }
  return absl::OkStatus();
}

void RdmaEndpoint::ForgetTables(const std::string& set_id) {
  std::vector<std::shared_ptr<const RdmaTables>> gone;  // let go of after the lock
  const std::lock_guard<std::mutex> lock(tables_mutex_);
  for (Nic& nic : nics_) {
    for (auto at = nic.tables.begin(); at != nic.tables.end();) {
      if ((*at)->served().set->id() != set_id) {
        ++at;
        continue;
      }
      gone.push_back(std::move(*at));
      at = nic.tables.erase(at);
    }
  }
}

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

absl::StatusOr<std::shared_ptr<RdmaClient>> RdmaEndpoint::Attach(size_t port,
                                                                 const std::string& set_id,
                                                                 const RdmaPeer& peer) {
  if (absl::Status status = CheckPlace(port); !status.ok()) return status;
  absl::StatusOr<ServedSet> served = store_->ResolveServed(set_id);
  if (!served.ok()) return served.status();
  RdmaPoller& poller = *nics_[port].poller;
  absl::StatusOr<std::shared_ptr<RdmaDomain>> domain = RdmaDomain::Create(poller.device());
  if (!domain.ok()) return domain.status();
  absl::StatusOr<std::shared_ptr<RdmaClient>> client =
      RdmaClient::Create(*std::move(domain), poller.channel(),
                         {.served = *std::move(served),
                          .team = team_,
                          .max_batch_rows = options_.max_batch_rows,
                          .metrics = nics_[port].metrics},
                         peer, &counts_);
  if (client.ok()) poller.Add(*client);
  return client;
}

void RdmaEndpoint::Detach(size_t port, const std::shared_ptr<RdmaClient>& client) {
  nics_[port].poller->Remove(client);
}

absl::StatusOr<std::unique_ptr<RdmaReader>> RdmaEndpoint::AttachReader(size_t port,
                                                                       const std::string& set_id,
                                                                       const RdmaPeer& peer) {
  if (absl::Status status = CheckPlace(port); !status.ok()) return status;
  const absl::StatusOr<ServedSet> served = store_->ResolveServed(set_id);
  if (!served.ok()) return served.status();
  const std::lock_guard<std::mutex> lock(tables_mutex_);
  for (const std::shared_ptr<const RdmaTables>& tables : nics_[port].tables) {
    if (tables->served().set != served->set) continue;
    return RdmaReader::Create(tables, nics_[port].poller->channel(), peer, &counts_);
  }
  return absl::UnimplementedError(
      "this engramd lets nobody read its tables over RDMA: start it with --rdma-read");
}

}  // namespace engram
