#include "client/cluster/discovery/discovery.h"

#include <utility>

#include "client/cluster/discovery/dns_discovery.h"
#include "client/cluster/discovery/etcd_discovery.h"
#include "client/cluster/discovery/known_addresses.h"

namespace engram {
namespace {

class ListDiscovery final : public Discovery {
 public:
  ListDiscovery(const ClusterTarget& target, const DiscoveryOptions& options)
      : known_({.tls_server_name = options.tls_server_name}) {
    std::vector<StoreAddress> addresses;
    addresses.reserve(target.addresses.size());
    for (const std::string& address : target.addresses) {
      addresses.push_back({address, options.tls_server_name});
    }
    known_.Set(std::move(addresses));
  }

  std::vector<StoreAddress> addresses() const override { return known_.addresses(); }
  absl::Status status() const override { return absl::OkStatus(); }

 private:
  KnownAddresses known_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Discovery>> Discovery::Create(const ClusterTarget& target,
                                                             const DiscoveryOptions& options,
                                                             Clock& clock) {
  switch (target.source) {
    case ClusterTarget::Source::kList:
      return std::make_unique<ListDiscovery>(target, options);
    case ClusterTarget::Source::kDns:
      return DnsDiscovery::Start(target, options, clock);
    case ClusterTarget::Source::kEtcd:
      return EtcdDiscovery::Start(target, options, clock);
  }
  return absl::InternalError("a source without a discovery");
}

}  // namespace engram
