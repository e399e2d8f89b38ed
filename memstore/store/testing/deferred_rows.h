// A row source for tests whose rows come when the test says so, to staging memory of their own, so
// that who gathers from the layer's table, too early, or after letting go, gets other bytes.
//
// The test's side (Deferred) is thread-safe and outlives the source and its requests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "memstore/base/mutex.h"
#include "memstore/store/row_source.h"

namespace engram::testing {

class Deferred {
 public:
  struct Pending;

  // A source over whole tables in memory; `held` in place of all rows where it is not empty.
  std::unique_ptr<const RowSource> MakeSource(std::vector<GatherTable> tables,
                                              std::vector<HeldLayer> held = {});

  // What Begin says from here on; OK: the rows come later.
  void Refuse(absl::Status status);
  // Waits until so many requests were begun in all.
  void AwaitBegun(size_t count);
  // Posts the rows, or the reason, of the oldest request that waits.
  void Complete() { Answer(absl::OkStatus()); }
  void Fail(absl::Status status) { Answer(std::move(status)); }
  // Requests whose rows are pinned, or on their way.
  size_t pinned() const;

 private:
  friend class DeferredRows;
  void Answer(const absl::Status& status);

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::shared_ptr<Pending>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t begun_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t pinned_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status refuse_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram::testing
