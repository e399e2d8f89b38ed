// The table sets that are served, by id and by name: a snapshot that readers take in one step.
//
// Thread-safe. A batch acquires its set once, at admission, and holds it to its end: retiring a set
// takes it out of the snapshot, and its memory goes when the last holder lets go. Each served set
// has a control page, which tells those that read its memory from elsewhere what became of it.
#pragma once

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/shm/control_page.h"
#include "memstore/store/table_set.h"

namespace engram {

// A set and the page that says whether it may still be read.
struct ServedSet {
  std::shared_ptr<const TableSet> set;
  std::shared_ptr<ControlPage> control;
};

class Store {
 public:
  // ALREADY_EXISTS when the id is served; the name then points to the newest set of that name.
  absl::Status Publish(std::shared_ptr<const TableSet> set);
  // NOT_FOUND when it is not served.
  absl::Status Retire(absl::string_view id);
  // Its memory was found to be damaged: as Retire, but from here on whoever asks for the set, or
  // reads it through its control page, gets DATA_LOSS, until it is loaded and published again.
  absl::Status Fence(absl::string_view id);
  // By id. FAILED_PRECONDITION lists those served; DATA_LOSS when it is fenced. Cost: one short
  // lock and a reference count a batch.
  absl::StatusOr<std::shared_ptr<const TableSet>> Acquire(absl::string_view id) const;
  // By id or name; an empty string means the only one. FAILED_PRECONDITION lists those served.
  absl::StatusOr<std::shared_ptr<const TableSet>> Resolve(absl::string_view id_or_name) const;
  // As Resolve, with the set's control page.
  absl::StatusOr<ServedSet> ResolveServed(absl::string_view id_or_name) const;
  std::vector<std::shared_ptr<const TableSet>> List() const;

 private:
  absl::Status TakeOut(absl::string_view id, SetState state);
  absl::Status NotServed(absl::string_view id) const;  // needs mutex_
  std::string ServedText() const;  // "name id, name id" for messages; needs mutex_

  mutable std::mutex mutex_;  // not absl::Mutex: ThreadSanitizer must see it
  std::vector<ServedSet> sets_;
  std::set<std::string> fenced_;  // ids, at most one for each set that was ever published
};

}  // namespace engram
