// The table sets that are served, by id and by name.
//
// Thread-safe: each call sees and changes all of them under one lock, which none holds for long. A
// batch acquires its set once, at admission, and holds it to its end: a set that is retired is
// found no more, and its memory goes when the last holder lets go. Each served set has a control
// page, which tells those that read its memory from elsewhere what became of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/store/control_page.h"
#include "memstore/store/lease.h"
#include "memstore/store/table_set.h"

namespace engram {

// A set, the page that says whether it may still be read, and who has it.
struct ServedSet {
  std::shared_ptr<const TableSet> set;
  std::shared_ptr<ControlPage> control;
  std::shared_ptr<LeaseCounts> leases;
};

// A served set as it stands.
struct RegisteredSet {
  ServedSet served;
  TableSetState state = TableSetState::kServing;  // or kSuperseded
  MonotonicTime since;                            // when it came into that state
  MonotonicTime acquired;  // the last time, by id: the lease of a client over gRPC
  bool was_acquired = false;

  // Whether its name leads to it.
  bool current() const { return state == TableSetState::kServing; }
};

// One that is not served because its memory was found damaged.
struct FencedSet {
  std::string id;
  std::string name;
  std::string directory;  // that it was loaded from
  MonotonicTime since;    // when it was fenced
  // Whether its name led to it then, and has led to no set since.
  bool missed = true;
};

// Whether whoever asks may have sets of this name; the error says that it may not, and names what
// it was asked about.
using MayHaveSet = absl::FunctionRef<absl::Status(absl::string_view name)>;
inline absl::Status EverySet(absl::string_view /*name*/) { return absl::OkStatus(); }

class TableSetRegistry {
 public:
  // `clock` dates what becomes of sets, and outlives this.
  explicit TableSetRegistry(const Clock& clock = RealClock()) : clock_(clock) {}

  // Makes what Publish takes. Apart from Publish so that others (RDMA's tables, metrics) can be
  // told of the set before its name leads to it. RESOURCE_EXHAUSTED and other errors of
  // ControlPage::Create.
  static absl::StatusOr<ServedSet> Prepare(std::shared_ptr<const TableSet> set);
  // In one step the set is served, its name leads to it, and the one that it led to is superseded:
  // found by its id alone. ALREADY_EXISTS when the id is served.
  absl::Status Publish(ServedSet served);
  absl::Status Publish(std::shared_ptr<const TableSet> set);
  // Its name leads to it no more. NOT_FOUND when it is not served, or not the current one.
  absl::Status Supersede(absl::string_view id);
  // Its name leads to a superseded set again. NOT_FOUND when it is not served, or is current.
  absl::Status TakeBack(absl::string_view id);
  // Nobody finds it any more. NOT_FOUND when it is not served.
  absl::Status Retire(absl::string_view id);
  // The same, unless its name leads to it (again): FAILED_PRECONDITION then.
  absl::Status RetireSuperseded(absl::string_view id);
  // Its memory was found to be damaged: as Retire, but from here on whoever asks for the set, or
  // reads it through its control page, gets DATA_LOSS, until it is loaded and published again.
  absl::Status Fence(absl::string_view id);
  // Of sets that `may_have` says no to nothing is told: neither names nor ids, and of a name not
  // whether there is such a set. PERMISSION_DENIED has the words that were asked with. `may_have`
  // waits for nothing and asks nothing here.
  //
  // By id. FAILED_PRECONDITION lists those served; DATA_LOSS when it is fenced. Cost: one short
  // lock and a reference count a batch.
  absl::StatusOr<std::shared_ptr<const TableSet>> Acquire(absl::string_view id,
                                                          MayHaveSet may_have = &EverySet) const;
  // By id, 12 of its first digits or more, or name; an empty string means the only one, and none
  // while a fenced one is missed beside it. FAILED_PRECONDITION lists those served, or those that
  // it may mean; DATA_LOSS when what it names is fenced, by name while that one is missed.
  absl::StatusOr<std::shared_ptr<const TableSet>> Resolve(absl::string_view id_or_name,
                                                          MayHaveSet may_have = &EverySet) const;
  // As Resolve, with the set's control page.
  absl::StatusOr<ServedSet> ResolveServed(absl::string_view id_or_name,
                                          MayHaveSet may_have = &EverySet) const;
  // Those that names lead to.
  std::vector<std::shared_ptr<const TableSet>> List() const;
  // Those that are served, as States, and those that are not, as Fenced, of one moment.
  struct All {
    std::vector<RegisteredSet> served;
    std::vector<FencedSet> fenced;
  };
  All Everything() const;
  // All of them, superseded ones too.
  std::vector<RegisteredSet> States() const;
  // By id: sets that were found damaged, until they are published again, or forgotten.
  std::vector<FencedSet> Fenced() const;
  // The one that is named as Resolve's are, by name while it is missed. NOT_FOUND: none is, or
  // several may be meant.
  absl::StatusOr<FencedSet> FindFenced(absl::string_view id_or_name) const;
  // Nobody is to miss it any more: it is not served here, as if it had been retired. NOT_FOUND when
  // it is not fenced.
  absl::Status ForgetFenced(absl::string_view id);
  // Changes whenever what a name leads to may have. One load.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  absl::Status TakeOut(absl::string_view id, TableSetState how, bool even_current = true);
  // By the whole id; null when there is none.
  RegisteredSet* Find(absl::string_view id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The name is to lead to another set: the one that it leads to is superseded, and of those that
  // were fenced none is missed.
  void FreeName(absl::string_view name, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status NotServed(absl::string_view id, MayHaveSet may_have) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All that people may mean by it: the one of that id alone where it is whole. What is not named
  // whole means none that whoever asks may not have.
  std::vector<const RegisteredSet*> Meant(absl::string_view id_or_name, MayHaveSet may_have) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of fenced sets that are missed.
  std::vector<std::string> MissedNames(MayHaveSet may_have) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // "name id, name id" for messages.
  std::string ServedText(MayHaveSet may_have = &EverySet) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Clock& clock_;
  mutable Mutex mutex_;
  // Mutable: Acquire changes nothing that a set is found by, but dates the set that it finds.
  mutable std::vector<RegisteredSet> sets_ ABSL_GUARDED_BY(mutex_);
  std::atomic<uint64_t> version_{0};
  // By id, at most one for each set that was ever published.
  std::map<std::string, FencedSet> fenced_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
