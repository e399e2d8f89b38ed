// The life of table sets in engramd: loaded, published under their name, superseded by the next of
// that name, retired when nobody has them any more.
//
// A published set is served by its name and its id. When another of its name is published, or it is
// retired, it is superseded: whoever has it goes on by its id. It goes once its last lease ended
// (shared memory, RDMA: the client's; gRPC: kGrpcLease after it was last asked for), or after the
// grace: then batches for it are refused, and its memory is freed when the last client lets go.
// Thread-safe. One thread ("engram-retire") lets sets go; loading takes its own and the caller's.
#pragma once

#include <spdlog/logger.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/store/store.h"
#include "memstore/store/table_set.h"
#include "server/base/life_cycle.h"

namespace engram {

// A layer's table, as it lies in files.
struct TableLayout {
  uint32_t layer = 0;
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
  size_t shards = 0;
};

// A set that is here, whatever its state.
struct TableSetState {
  std::string name;
  std::string id;
  std::string directory;
  std::string state;  // "serving", "superseded", "retired" (clients still map it), "fenced"
  uint64_t resident_bytes = 0;
  PageKind page_kind = PageKind::kSmall;
  std::array<uint32_t, kLeaseKinds> leases{};  // by LeaseKind
  // Since it was asked for over gRPC; nothing: by nobody since it is here, or it is retired.
  std::optional<std::chrono::seconds> idle = std::nullopt;
  std::chrono::seconds age{0};           // in this state
  std::vector<TableLayout> layers = {};  // nothing where it is fenced
};

// What is being loaded.
struct TableSetLoad {
  std::string directory;
  LoadProgress progress;
};

class TableSets {
 public:
  struct Options {
    uint64_t memory_limit_bytes = 0;  // of all sets together; 0: what the machine has
    std::chrono::seconds retire_grace{0};
    uint64_t max_batch_rows = 0;
    LoadOptions load;  // threads and arena
    // Before its name leads to a set, and once nobody finds it any more (RDMA's tables). The first
    // may refuse.
    std::function<absl::Status(const ServedSet&)> on_publish = [](const ServedSet&) {
      return absl::OkStatus();
    };
    std::function<void(const std::string& id)> on_retire = [](const std::string&) {};
  };

  // `store` and `life` outlive it; loading is told to `life`.
  TableSets(Store* store, Options options, const LifeCycle* life,
            std::shared_ptr<spdlog::logger> log)
      : store_(store), options_(std::move(options)), life_(life), log_(std::move(log)) {}
  absl::Status Start();
  // Cancels a publication that is under way, and ends the thread.
  ~TableSets();
  void Cancel() { cancelled_.store(true); }

  // Loads the set in `directory` beside those that are here and moves its name to it; one that is
  // superseded and still here is taken back as it is. Blocks. `on_progress` and `cancelled` as
  // LoadOptions'. TableSet::Load's errors; ALREADY_EXISTS: its name leads to it already; ABORTED:
  // another one is being published; RESOURCE_EXHAUSTED: it does not fit, with who holds the memory.
  absl::StatusOr<std::shared_ptr<const TableSet>> Publish(
      const std::string& directory, std::function<void(const LoadProgress&)> on_progress,
      std::function<bool()> cancelled);

  // Takes the name from the set. NOT_FOUND: not here; FAILED_PRECONDITION: it is the only one, or
  // is on its way out already.
  absl::Status Retire(const std::string& id_or_name);

  std::vector<TableSetState> List() const;
  // All that are served, superseded ones too; each stays while it is held.
  std::vector<std::shared_ptr<const TableSet>> Held() const;
  std::optional<TableSetLoad> loading() const;

 private:
  using Clock = std::chrono::steady_clock;
  // One that nobody finds any more, for as long as it is held.
  struct Leaving {
    std::weak_ptr<const TableSet> set;
    TableSetState state;
    std::shared_ptr<LeaseCounts> leases;
    Clock::time_point since;
  };

  absl::StatusOr<Manifest> Check(const std::string& directory) const;
  absl::Status CheckMemory(const Manifest& manifest) const;
  absl::StatusOr<std::shared_ptr<const TableSet>> Load(const std::string& directory);
  std::string Holders() const;
  void LogLoaded(const TableSet& set, double seconds) const;
  void Run();
  void LetGo();

  Store* const store_;
  const Options options_;
  const LifeCycle* const life_;
  const std::shared_ptr<spdlog::logger> log_;
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;                                   // guarded by mutex_
  bool publishing_ = false;                               // guarded by mutex_
  std::optional<TableSetLoad> loading_;                   // guarded by mutex_
  std::function<void(const LoadProgress&)> on_progress_;  // of the publication under way
  std::function<bool()> give_up_;                         // of the publication under way
  std::vector<Leaving> leaving_;                          // guarded by mutex_
  std::thread thread_;
};

}  // namespace engram
