#include "client/cluster/discovery/dns_discovery.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"

namespace engram {

DnsDiscovery::DnsDiscovery(const ClusterTarget& target, const DiscoveryOptions& options,
                           Clock& clock)
    : name_(target.name),
      port_(target.port),
      tls_server_name_(options.tls_server_name.empty() ? target.name : options.tls_server_name),
      resolver_(options.resolver),
      clock_(clock),
      known_(options) {}

absl::StatusOr<std::unique_ptr<Discovery>> DnsDiscovery::Start(const ClusterTarget& target,
                                                               const DiscoveryOptions& options,
                                                               Clock& clock) {
  std::unique_ptr<DnsDiscovery> discovery(new DnsDiscovery(target, options, clock));
  ENGRAM_RETURN_IF_ERROR(discovery->LookUp());
  ENGRAM_ASSIGN_OR_RETURN(discovery->thread_,
                          StartThread("discovery", [raw = discovery.get()] { raw->Run(); }));
  return discovery;
}

DnsDiscovery::~DnsDiscovery() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void DnsDiscovery::LookAgain() {
  MutexLock lock(mutex_);
  asked_ = true;
  changed_.NotifyAll();
}

absl::Status DnsDiscovery::LookUp() {
  ENGRAM_ASSIGN_OR_RETURN(const std::vector<std::string> found, resolver_(name_, port_));
  std::vector<StoreAddress> addresses;
  addresses.reserve(found.size());
  for (const std::string& address : found) addresses.push_back({address, tls_server_name_});
  known_.Set(std::move(addresses));
  known_.Recover();
  return absl::OkStatus();
}

bool DnsDiscovery::WaitUntilDue(MonotonicTime last) {
  MutexLock lock(mutex_);
  while (!ending_) {
    const MonotonicTime due = last + (asked_ ? kLookUpSpace : kLookUpPeriod);
    if (clock_.Now() >= due) break;
    clock_.WaitUntil(changed_, mutex_, due);
  }
  asked_ = false;
  return !ending_;
}

void DnsDiscovery::Run() {
  MonotonicTime last = clock_.Now();
  while (WaitUntilDue(last)) {
    if (const absl::Status status = LookUp(); !status.ok()) {
      known_.Fail(absl::Status(status.code(),
                               absl::StrCat(status.message(), "; the last addresses go on")));
    }
    last = clock_.Now();
  }
}

}  // namespace engram
