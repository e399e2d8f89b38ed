// Which addresses a cluster's stores have: a list, the records of a name, or what is registered in
// etcd. Addresses only: what is there, and whether it is a store, is heard from it.
//
// Where the source is down, the last addresses go on and status() says so. An address that goes
// says only that nobody names it any more, as after etcd lost its data: whoever still hears a store
// there may go on with it. Thread-safe, but for the destructor. What is watched or looked up again
// is so by a thread of its own ("discovery"), which ends with it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cluster/discovery/cluster_target.h"
#include "client/cluster/discovery/resolver.h"
#include "memstore/base/clock.h"
#include "memstore/discovery/etcd_security.h"

namespace engram {

struct StoreAddress {
  std::string address;  // HOST:PORT or unix:PATH, as targets of transports have it
  // The name that its certificate has to be for; empty: the address's host.
  std::string tls_server_name = {};
  friend auto operator<=>(const StoreAddress&, const StoreAddress&) = default;
};

struct DiscoveryOptions {
  // The name that every store's certificate is for; empty: that of the record (DNS), else none.
  std::string tls_server_name = {};
  EtcdSecurity etcd = {};
  // The addresses, ascending, each time that they have changed since they were told or Create
  // returned; also before Create returns. Called one at a time by the discovery's thread, which it
  // holds up. It may ask the discovery, not destroy it.
  std::function<void(const std::vector<StoreAddress>&)> on_change = {};
  // What is wrong, in words for a log: the source fails (each time that it begins to, or fails with
  // another code), or holds what is no store's (once for each key, for 16 of them). Called as
  // on_change.
  std::function<void(const absl::Status&)> on_problem = {};
  Resolver resolver = SystemResolver();
};

class Discovery {
 public:
  // Returns with the first addresses, which may be none in etcd. NOT_FOUND: the name has no record;
  // UNAVAILABLE: the source is not reached; INVALID_ARGUMENT, UNAUTHENTICATED: what it is to be
  // reached by cannot be used, or is refused; RESOURCE_EXHAUSTED: there is no thread. `clock`
  // outlives it.
  static absl::StatusOr<std::unique_ptr<Discovery>> Create(const ClusterTarget& target,
                                                           const DiscoveryOptions& options,
                                                           Clock& clock);
  // Waits for a look-up of a name that is under way (the system's resolver bounds it), and for
  // nothing else.
  virtual ~Discovery() = default;
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;

  virtual std::vector<StoreAddress> addresses() const = 0;  // ascending, each once
  // OK while the source answers; else why it does not.
  virtual absl::Status status() const = 0;
  // How often a key under the prefix in etcd was ignored, for it is no store's.
  virtual uint64_t ignored_keys() const { return 0; }
  // A store did not answer: names are looked up again soon. Returns at once.
  virtual void LookAgain() {}

 protected:
  Discovery() = default;
};

}  // namespace engram
