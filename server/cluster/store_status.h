// What this engramd says of itself on Holdings streams: who it is, and which rows it holds of which
// table sets.
//
// Made anew for each message, of what is there at the moment; nothing is kept. Thread-safe. Cost: a
// short lock, and a few references a set.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "memstore/base/mutex.h"
#include "memstore/store/table_set_registry.h"
#include "proto/engram/v1/lookup.pb.h"
#include "server/base/life_cycle.h"
#include "server/table_sets/generations.h"

namespace engram {

class StoreStatus {
 public:
  struct Options {
    std::string zone;                     // empty: not said
    std::vector<std::string> transports;  // "grpc", "rdma"
    std::function<double()> load;         // 0..1; thread-safe
  };

  // All of them outlive it.
  StoreStatus(Options options, const TableSetRegistry* registry, const Generations* generations,
              const LifeCycle* life);

  const std::string& instance_id() const { return instance_id_; }
  // Known only once it is bound.
  void SetAdminAddress(const std::string& address) ABSL_LOCKS_EXCLUDED(mutex_);

  // Changes whenever a message made now may say something else than the load. Three loads.
  struct Version {
    uint64_t sets = 0;
    uint64_t generations = 0;
    bool draining = false;
    friend bool operator==(const Version&, const Version&) = default;
  };
  Version version() const;
  // Of the sets that `may_have` says yes to.
  v1::HoldingsResponse Make(MayHaveSet may_have) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const Options options_;
  const TableSetRegistry* const registry_;
  const Generations* const generations_;
  const LifeCycle* const life_;
  const std::string instance_id_;
  mutable Mutex mutex_;
  std::string admin_address_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
