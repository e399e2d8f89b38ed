// Hears all stores of a cluster: the addresses that discovery knows, and one Holdings stream to
// each, which is also this client's lease there.
//
// An address that answers nothing costs a stream that is tried again and again, and nobody waits
// for it. One that discovery names no more is let go of once nothing is heard there. With discovery
// down all goes on as it is. Thread-safe, but for the destructor. Threads: discovery's, and that of
// the streams' queue.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cluster/discovery/cluster_target.h"
#include "client/cluster/discovery/discovery.h"
#include "client/cluster/discovery/resolver.h"
#include "client/cluster/holdings_stream.h"
#include "client/cluster/store_directory.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "client/transport/grpc/queue_driver.h"
#include "client/transport/security_options.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/discovery/etcd_security.h"

namespace engram {

struct StoreWatchOptions {
  SecurityOptions security = {};  // of stores
  EtcdSecurity etcd = {};         // as AttachOptions has it
  Clock* clock = &RealClock();    // outlives the watch
  Resolver resolver = SystemResolver();
};

class StoreWatch final : public StoreDirectory, private HoldingsListener {
 public:
  // How the store at an address is reached: what its stream uses.
  struct Way {
    SecurityOptions security;
    std::shared_ptr<const GrpcCredentials> credentials;
    std::shared_ptr<grpc::Channel> channel;
    std::vector<std::string> features;  // that the store says; none while it is not heard
  };

  // Discovery::Create and GrpcCredentials::Create have the errors; RESOURCE_EXHAUSTED: there is no
  // thread.
  static absl::StatusOr<std::unique_ptr<StoreWatch>> Start(const ClusterTarget& target,
                                                           StoreWatchOptions options);
  ~StoreWatch() override;

  std::vector<StoreState> Heard() const override;
  void SetListener(Listener* listener) override;
  void LookAgain() override { discovery_->LookAgain(); }
  std::vector<std::string> Unheard() const override;
  bool FindsAddresses() const override { return discovery_->status().ok(); }
  Refusals refusals() const override;

  // Counts what changed: of holdings, and of why stores are not heard.
  uint64_t version() const;
  // Returns once there is another version, or at `until`.
  void AwaitChange(uint64_t version, MonotonicTime until) const;
  // From now on the client uses these sets, at every store.
  void Use(const std::vector<std::string>& set_ids);
  std::optional<Way> WayTo(const std::string& address) const;
  // OK while the source of addresses answers.
  absl::Status discovery_status() const { return discovery_->status(); }
  uint64_t ignored_keys() const { return discovery_->ignored_keys(); }

  // How many addresses there are; of those that are not heard, why, where it is known.
  size_t addresses() const;
  std::map<std::string, absl::Status> problems() const;
  // Those that have neither said anything nor failed yet.
  std::vector<std::string> Silent() const;

 private:
  struct Store {
    Way way;
    std::unique_ptr<HoldingsStream> stream;
  };

  StoreWatch(StoreWatchOptions options, std::shared_ptr<QueueDriver> driver)
      : options_(std::move(options)), driver_(std::move(driver)) {}
  // Streams to what discovery names now, and none to what it does not and that is silent.
  absl::Status TakeAddresses();
  absl::StatusOr<Store> Open(const StoreAddress& address);
  bool IsHeard(const std::string& address) const;

  void Heard(StoreState state) override;
  void Lost(const std::string& address, absl::Status why) override;
  void TellListener(const std::string& address, bool has_changed);

  const StoreWatchOptions options_;
  const std::shared_ptr<QueueDriver> driver_;
  mutable Mutex stores_mutex_;  // before mutex_
  std::map<std::string, Store> stores_ ABSL_GUARDED_BY(stores_mutex_);
  std::vector<std::string> used_ ABSL_GUARDED_BY(stores_mutex_);
  Discovery* known_discovery_ ABSL_GUARDED_BY(stores_mutex_) = nullptr;  // null while it starts
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<StoreState> heard_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> problems_ ABSL_GUARDED_BY(mutex_);
  Refusals refusals_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 1;
  Mutex listener_mutex_;  // held while it is told
  Listener* listener_ ABSL_GUARDED_BY(listener_mutex_) = nullptr;
  std::unique_ptr<Discovery> discovery_;
};

}  // namespace engram
