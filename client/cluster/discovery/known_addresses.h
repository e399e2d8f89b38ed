// The addresses that a discovery knows last, and what is wrong with its source; tells of changes.
//
// Thread-safe. Set, Fail and Recover belong to one thread, by which those are called who are told,
// without a lock.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "client/cluster/discovery/discovery.h"
#include "memstore/base/mutex.h"

namespace engram {

class KnownAddresses {
 public:
  explicit KnownAddresses(const DiscoveryOptions& options)
      : on_change_(options.on_change), on_problem_(options.on_problem) {}

  std::vector<StoreAddress> addresses() const;
  absl::Status status() const;

  // Sorted here, each once.
  void Set(std::vector<StoreAddress> addresses);
  // The source fails: the addresses stay.
  void Fail(const absl::Status& why);
  // It answers.
  void Recover();
  // Of what is wrong and fails nothing.
  void Tell(const absl::Status& problem) const;

 private:
  const std::function<void(const std::vector<StoreAddress>&)> on_change_;
  const std::function<void(const absl::Status&)> on_problem_;
  mutable Mutex mutex_;
  std::vector<StoreAddress> addresses_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
