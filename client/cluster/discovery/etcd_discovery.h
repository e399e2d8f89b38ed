// The stores that are registered in etcd: listed once, then watched.
//
// A watch that broke goes on from the revision that was seen last, at the next endpoint. Listed
// anew is what cannot be gone on with: compacted revisions, a revision behind the one that was seen
// (a backup was restored), another cluster's id. While no endpoint does, the last addresses stay
// and endpoints are tried again with growing delays.
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <thread>

#include "client/cluster/discovery/discovery.h"
#include "client/cluster/discovery/known_addresses.h"
#include "client/cluster/discovery/store_keys.h"
#include "memstore/tls/pem_watch.h"

namespace engram {

namespace etcd {
class Client;
}

class EtcdDiscovery final : public Discovery {
 public:
  // Between two rounds over the endpoints: the first delay, doubled each time, and the longest.
  static constexpr absl::Duration kFirstDelay = absl::Milliseconds(100);
  static constexpr absl::Duration kLongestDelay = absl::Seconds(5);

  static absl::StatusOr<std::unique_ptr<Discovery>> Start(const ClusterTarget& target,
                                                          const DiscoveryOptions& options,
                                                          Clock& clock);
  ~EtcdDiscovery() override;

  std::vector<StoreAddress> addresses() const override { return known_.addresses(); }
  absl::Status status() const override { return known_.status(); }
  uint64_t ignored_keys() const override { return ignored_.load(); }

 private:
  // How following the keys ended.
  struct Ended {
    absl::Status status;   // OK: what is there has to be listed anew, which is no failure
    bool relists = false;  // the watch cannot be gone on with
  };

  EtcdDiscovery(const ClusterTarget& target, const DiscoveryOptions& options, Clock& clock);
  absl::Status OpenClient(const EtcdSecurity& security);
  // Lists what is there; the endpoints are tried once each.
  absl::Status ListAnywhere();
  absl::Status List();
  // Watches until that ends, from the revision behind the last one seen.
  Ended Follow();
  void Publish();
  void Run();

  const EtcdPlace place_;
  const std::string tls_server_name_;
  Clock& clock_;
  KnownAddresses known_;
  // The thread's; Start's before there is one.
  StoreKeys keys_;
  bool listed_ = false;
  bool followed_ = false;  // since the last failure
  int64_t revision_ = 0;   // seen last
  uint64_t cluster_id_ = 0;

  std::atomic<uint64_t> ignored_{0};
  std::unique_ptr<PemWatch> watch_;  // null without TLS
  std::stop_source stop_;
  std::unique_ptr<etcd::Client> client_;
  std::thread thread_;
};

}  // namespace engram
