// The life of table sets in engramd: loaded, published under their name, superseded by the next of
// that name, retired when nobody has them any more.
//
// A published set is served by its name and its id. When another of its name is published, or its
// name is taken from it (`engram admin retire`), it is superseded: whoever has it goes on by its
// id. It is retired once its last lease ended (shared memory, RDMA: the client's; gRPC: kGrpcLease
// after it was last asked for), or after the grace: then batches for it are refused, and its memory
// is freed when the last client lets go.
// Thread-safe. One thread ("engram-retire") retires sets, every 100 ms of the clock; loading takes
// its own and the caller's.
#pragma once

#include <spdlog/logger.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/store/control_page.h"
#include "memstore/store/table_set.h"
#include "memstore/store/table_set_registry.h"
#include "memstore/table/side_files.h"
#include "server/base/life_cycle.h"
#include "server/table_sets/generations.h"
#include "server/table_sets/page_census.h"
#include "server/table_sets/publication_record.h"
#include "server/table_sets/set_text.h"

namespace engram {

// A layer's table, as it lies in files.
struct TableLayout {
  uint32_t layer = 0;
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
  size_t shards = 0;
};

// A set that is here, whatever its state.
struct TableSetStatus {
  std::string name;
  std::string id;
  std::string directory;
  TableSetState state = TableSetState::kServing;  // kRetiring: clients still map it; never kGone
  bool missed = true;                             // where it is fenced: FencedSet's
  uint64_t resident_bytes = 0;                    // what its memory takes, as it was mapped
  uint64_t held_bytes = 0;                        // of the rows that are held ...
  uint64_t table_bytes = 0;                       // ... and of all rows of the set
  std::string held = {};                          // HeldText: which these are; empty: all of them
  PageKind page_kind = PageKind::kSmall;          // on which most of it lay when it was loaded
  ResidentPages pages = {};                       // as the kernel counted it last (RefreshPages)
  std::array<uint32_t, kLeaseKinds> leases{};     // by LeaseKind
  // Since it was asked for over gRPC; nothing: by nobody since it is here, or it is retired.
  std::optional<std::chrono::seconds> idle = std::nullopt;
  std::chrono::seconds age{0};                          // in this state
  std::optional<uint64_t> generation = std::nullopt;    // of its name; nothing: not served any more
  std::vector<TableLayout> layers = {};                 // nothing where it is fenced
  std::vector<WidthCalibration> calibrations = {};      // nor this
  std::optional<Provenance> provenance = std::nullopt;  // where the set came with it

  // Whether engramd is not ready for its sake.
  bool is_missed() const { return state == TableSetState::kFenced && missed; }
};

// What is being loaded.
struct TableSetLoad {
  std::string directory;
  LoadProgress progress;
  MonotonicTime since = {};     // when it began
  absl::Duration elapsed = {};  // since then, as loading() was asked
};

// What was published.
struct PublishedSet {
  std::shared_ptr<const TableSet> set;
  // For the operator, and logged: that the name led to rows of another source, or of another
  // shape (layers, columns, bytes or encoding of a row), that it led to the set already, or that
  // a restart will not serve it. Empty: nothing.
  std::string warning;
  // Of the other set that the name led to; empty: none.
  std::string id_before = {};
  uint64_t generation = 0;  // of its name (generations.h); 0: what engramd was started with
  // Whether nothing is wrong, and `warning` says no more than that it is served already.
  bool is_note = false;
};

// Whether what is published is kept over a restart.
enum class Keep { kNo, kYes };

class TableSetManager {
 public:
  struct Options {
    uint64_t memory_limit_bytes = 0;  // of all sets together; 0: what the machine has
    std::chrono::seconds retire_grace{0};
    uint64_t max_batch_rows = 0;
    LoadOptions load;  // threads and arena
    // STATE_DIRECTORY/ID may hold side files of a set beside those in its own directory; empty:
    // nowhere does.
    std::string state_directory;
    // Before its name leads to a set, and once nobody finds it any more (RDMA's tables). The first
    // may refuse.
    std::function<absl::Status(const ServedSet&)> on_publish = [](const ServedSet&) {
      return absl::OkStatus();
    };
    // Once its name leads to it, or a fenced set was dropped: what was not ready may be.
    std::function<void()> after_publish = [] {};
    std::function<void(const std::string& id)> on_retire = [](const std::string&) {};
    // Where publications are kept; null: nowhere. Outlives the manager.
    PublicationRecord* record = nullptr;
  };

  // `registry`, `life` and `clock` outlive it; loading is told to `life`. The clock is the
  // registry's too.
  TableSetManager(TableSetRegistry* registry, Options options, const LifeCycle* life,
                  std::shared_ptr<spdlog::logger> log, Clock* clock)
      : registry_(registry),
        options_(std::move(options)),
        life_(life),
        log_(std::move(log)),
        clock_(clock),
        census_(clock),
        generations_(options_.record == nullptr ? std::vector<Publication>()
                                                : options_.record->All()) {}
  // RESOURCE_EXHAUSTED when the thread cannot be started.
  absl::Status Start();
  // Cancels a publication that is under way, and ends the thread.
  ~TableSetManager();
  void Cancel() { cancelled_.store(true); }

  // Loads the set in `directory` beside those that are here and moves its name to it; one that is
  // superseded and still here is taken back as it is, and one that its name leads to stays: that is
  // said, and is no error. Blocks. `on_progress` and `cancelled` as LoadOptions'. TableSet::Load's
  // errors; ABORTED: another one is being published; RESOURCE_EXHAUSTED: it does not fit, with who
  // holds the memory. That it cannot be kept is a warning.
  // `generation`: what the operator says of a publication; Generations::Next has the errors, which
  // come before anything is loaded. What is not to be kept is what engramd is started with.
  absl::StatusOr<PublishedSet> Publish(const std::string& directory,
                                       std::function<void(const LoadProgress&)> on_progress,
                                       std::function<bool()> cancelled, Keep keep = Keep::kNo,
                                       std::optional<uint64_t> generation = std::nullopt);

  // Takes the name from the set, which is returned: it is retired by itself, later. What was kept
  // of the name is no more, or the error says that it could not be taken back. NOT_FOUND: not here,
  // or several are meant; FAILED_PRECONDITION: it is the only one, or is superseded already.
  absl::StatusOr<std::shared_ptr<const TableSet>> Supersede(const std::string& id_or_name);
  // Takes a fenced set away that nobody is to wait for any more, which is returned; kept
  // publications as Supersede. NOT_FOUND: none that is fenced is meant; FAILED_PRECONDITION: no
  // other is served.
  absl::StatusOr<FencedSet> DropFenced(const std::string& id_or_name);
  std::chrono::seconds retire_grace() const { return options_.retire_grace; }

  const Generations& generations() const { return generations_; }

  std::vector<TableSetStatus> List() const;
  // Has the kernel count the pages of all sets anew for List, where that is due (PageCensus): for
  // whoever shows them. Takes up to a second then.
  void RefreshPages() ABSL_LOCKS_EXCLUDED(mutex_);
  // All that are served, superseded ones too; each stays while it is held.
  std::vector<std::shared_ptr<const TableSet>> Held() const;
  std::optional<TableSetLoad> loading() const;

 private:
  // One that nobody finds any more, for as long as it is held.
  struct Leaving {
    std::weak_ptr<const TableSet> set;
    TableSetStatus status;
    std::shared_ptr<LeaseCounts> leases;
    MonotonicTime since;
  };

  absl::StatusOr<Manifest> Check(const std::string& directory) const;
  // The set where the name leads to it; null where it does not.
  std::shared_ptr<const TableSet> Served(const Manifest& manifest) const;
  // `needed`: what the set would take of memory.
  absl::Status CheckMemory(const Manifest& manifest, uint64_t needed) const;
  absl::StatusOr<PublishedSet> Load(const std::string& directory);
  absl::StatusOr<uint64_t> NextGeneration(const Manifest& manifest) const;
  void Record(const std::string& directory, PublishedSet& published);
  absl::StatusOr<std::shared_ptr<const TableSet>> LoadFiles(const std::string& directory,
                                                            const Manifest& manifest);
  static std::string DirectoryToKeep(const TableSet& held, const std::string& directory,
                                     const Manifest& manifest);
  // That a set which is here may be published from there, unread: its files by name and size, and
  // what is known of it beside its rows.
  absl::Status CheckTakenBack(const std::string& directory, const Manifest& manifest) const;
  std::shared_ptr<const TableSet> Current(const std::string& name) const;
  // Of the name that was taken from the set of that id: what is kept of it over restarts.
  absl::Status Forget(const std::string& name, const std::string& id);
  std::string WarnOfOtherRows(const TableSet* before, const TableSet& now) const;
  std::string Holders() const;
  TableSetStatus StatusOf(const TableSet& set, TableSetState state) const;
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void RetireUnused() ABSL_LOCKS_EXCLUDED(mutex_);

  TableSetRegistry* const registry_;
  const Options options_;
  const LifeCycle* const life_;
  const std::shared_ptr<spdlog::logger> log_;
  Clock* const clock_;
  PageCensus census_;
  Generations generations_;
  std::atomic<bool> cancelled_{false};
  mutable Mutex mutex_;
  CondVar changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool publishing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<TableSetLoad> loading_ ABSL_GUARDED_BY(mutex_);
  std::vector<Leaving> leaving_ ABSL_GUARDED_BY(mutex_);
  // Held while a name is moved or taken and while that is recorded, so that the record has the
  // last of them.
  Mutex moving_;
  // Of the publication under way, and its thread's alone while publishing_ is set.
  std::function<void(const LoadProgress&)> on_progress_;
  std::function<bool()> give_up_;
  Keep keep_ = Keep::kNo;
  std::optional<uint64_t> asked_generation_;
  std::thread thread_;
};

}  // namespace engram
