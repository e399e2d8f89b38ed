// What engramd shows of itself over HTTP.
#include <sys/utsname.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/admin/status_page.h"
#include "server/base/log.h"
#include "server/engramd.h"
#include "server/metrics/exposition.h"
#include "server/metrics/process_stats.h"

namespace engram {
namespace {

// As `hostname` and Kubernetes' pods have it.
std::string HostName() {
  utsname names{};
  return uname(&names) == 0 ? names.nodename : "";
}

}  // namespace

ServerSnapshot Engramd::Snapshot() const {
  ServerSnapshot snapshot;
  snapshot.state = life_.state();
  snapshot.start_time = absl::ToDoubleSeconds(start_time_ - absl::UnixEpoch());
  snapshot.uptime = clock_->Now() - started_;
  snapshot.grpc_streams = context_.streams.taken();
  snapshot.attach_refusals = attach_refusals_.Read();
  snapshot.admin_refusals = admin_refusals_.Read();
  snapshot.connections_ended = CountConnectionsEnded();
  if (tls_ != nullptr) snapshot.certificate_expiry = tls_->Expiry();
  for (const auto& tls : {tls_, admin_tls_}) {
    if (tls == nullptr) continue;
    snapshot.tls_refused = snapshot.tls_refused.value_or(false) || !tls->Refusal().ok();
  }
  if (tokens_ != nullptr) snapshot.tokens_refused = !tokens_->Refusal().ok();
  if (config_.partition) {
    const auto* const index = std::get_if<PartitionIndex>(&*config_.partition);
    snapshot.partition =
        index == nullptr ? "columns" : absl::StrCat(index->index, "/", index->count);
  }
  MutexLock lock(watched_mutex_);
  if (table_sets_ != nullptr) {
    snapshot.table_sets = table_sets_->List();
    snapshot.loading = table_sets_->loading();
  }
  if (snapshot.state == LifeState::kLoading && start_loads_.sets > 1) {
    snapshot.start_loads = start_loads_;
    snapshot.start_loads->elapsed = clock_->Now() - start_loads_.since;
  }
  if (scrubber_ != nullptr) snapshot.scrub = scrubber_->progress();
  snapshot.scrub_bytes_per_s = uint64_t{config_.scrub_mib_per_s} << 20;
  if (shm_ != nullptr) snapshot.shm_clients = shm_->clients();
  if (rdma_ != nullptr) snapshot.rdma_clients = rdma_->clients();
  if (registration_ != nullptr) {
    const Registration::Status status = registration_->status();
    snapshot.registration = {status.registered, status.failures};
  }
  return snapshot;
}

// For those who look at all of it. Not for probes: the kernel's counts may take a second.
ServerSnapshot Engramd::SnapshotWithPages() {
  TableSetManager* sets = nullptr;
  std::vector<std::string> addresses;
  {
    MutexLock lock(watched_mutex_);
    sets = table_sets_.get();  // once it is set it stays for as long as pages are asked for
    addresses = shown_addresses_;
  }
  if (sets != nullptr) sets->RefreshPages();
  numa_census_.Refresh();
  ServerSnapshot snapshot = Snapshot();
  snapshot.host = HostName();
  snapshot.addresses = std::move(addresses);
  snapshot.recent_refusals = attach_refusals_.Recent();
  snapshot.process = ReadProcessStats();
  snapshot.numa_bytes = numa_census_.Read();
  return snapshot;
}

HttpServer::Site Engramd::Pages() {
  HttpServer::Site site;
  site.front = "/statusz";
  for (const char* path : {"/healthz", "/livez"}) {
    site.probes[path] = [] { return HttpPage{.body = "alive\n"}; };
  }
  site.probes["/readyz"] = [this] {
    const std::string why = Snapshot().WhyNotReady();
    return why.empty() ? HttpPage{.body = "serving\n"}
                       : HttpPage{.code = 503, .body = absl::StrCat(why, "\n")};
  };
  site.pages["/metrics"] = [this] {
    return HttpPage{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                    .body = ExposeMetrics(metrics_->Sum(), SnapshotWithPages())};
  };
  site.pages["/statusz"] = [this] {
    return HttpPage{.content_type = "text/html; charset=utf-8",
                    .body = MakeStatusPage(SnapshotWithPages(), metrics_->Sum(), history_->Points(),
                                           config_.effective)};
  };
  site.pages["/statusz.js"] = [] {
    return HttpPage{.content_type = "text/javascript; charset=utf-8",
                    .body = std::string(StatusPageScript())};
  };
  return site;
}

// First, so that loading can be watched.
absl::Status Engramd::StartHttp() {
  if (!config_.admin_listen) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(history_, History::Start(metrics_.get(), clock_));
  ENGRAM_ASSIGN_OR_RETURN(http_, HttpServer::Start(*config_.admin_listen, Pages()));
  LogEvent(*log_, spdlog::level::info, "listening",
           {{"address", http_->address()}, {"for", "metrics"}},
           absl::StrCat("metrics and status at http://", http_->address()));
  return absl::OkStatus();
}

}  // namespace engram
