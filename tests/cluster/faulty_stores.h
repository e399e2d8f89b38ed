// Stores of all partitions of a table set, as engramd processes at Unix sockets, and what is done
// to them: one is killed and started again, or stopped and let go on, at random and by a seed.
//
// Never are all replicas of a partition at fault at once, which nobody could promise anything for:
// a store is drawn only where every other replica of its partition is whole. It is whole that
// serves, is not stopped, and has served for kWholeAfter since the last that was done to it: by
// then every client has heard of it again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "tests/integration/programs.h"

namespace engram::integration {

enum class FaultKind {
  kKill,  // SIGKILL, and started again
  kStop,  // SIGSTOP and SIGCONT
};

// Not thread-safe.
class FaultyStores {
 public:
  // A client tries a store that is gone again every 5 s at least (HoldingsStream::kMaxDelay), and
  // loads what it says at once.
  static constexpr absl::Duration kWholeAfter = absl::Seconds(6);

  struct Options {
    std::string table_set;
    std::string sockets;  // a directory, whose path is short
    uint32_t partitions = 4;
    uint32_t replicas = 2;
    std::vector<std::string> flags;  // of every store, beside what it holds and where it listens
  };
  // Returns once all serve.
  explicit FaultyStores(Options options);

  size_t size() const { return stores_.size(); }
  std::string Name(size_t store) const;
  std::string target() const;  // "cluster:..."
  pid_t pid(size_t store) const { return stores_[store].process->pid(); }
  // Of those that may be faulted now, one; nothing where there is none.
  std::optional<size_t> Draw(MonotonicTime now, std::mt19937_64& random) const;
  void Fault(size_t store, FaultKind kind);
  // Undoes it; returns once the store serves.
  void Repair(size_t store, FaultKind kind);

 private:
  struct Store {
    std::unique_ptr<EngramdProcess> process;
    bool is_faulty = false;
    MonotonicTime serves_since;
  };
  std::string Address(size_t store) const;
  void Start(size_t store);
  bool IsWhole(size_t store, MonotonicTime now) const;

  const Options options_;
  std::vector<Store> stores_;
};

struct FaultPlan {
  FaultKind kind = FaultKind::kKill;
  absl::Duration every = absl::Seconds(3);
  absl::Duration lasts = absl::Seconds(5);
  uint64_t seed = 1;
  bool says_each = false;  // on standard error
};

// Faults by a plan while it lives, in a thread of its own. When it goes all stores are whole but
// for kWholeAfter.
class Faults {
 public:
  Faults(FaultyStores& stores, const FaultPlan& plan);
  ~Faults();
  // Begins no more of them and repairs what is at fault; how many there were.
  uint64_t End();

 private:
  struct Repair {
    size_t store = 0;
    MonotonicTime at;
  };
  void Run();
  void Say(absl::string_view what, size_t store) const;

  FaultyStores& stores_;
  const FaultPlan plan_;
  const MonotonicTime begin_ = RealClock().Now();
  uint64_t count_ = 0;
  Mutex mutex_;
  CondVar changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace engram::integration
