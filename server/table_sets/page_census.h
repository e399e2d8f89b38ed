// On which pages table sets lie, counted now and then.
//
// Counting walks the page tables (memstore/store/resident_pages.h): a millisecond or so, and up to
// a second for 189 GiB on small pages. So what was counted is kept for a second, and for a thousand
// times as long as counting took: whoever scrapes however often takes a thousandth of a core.
// Thread-safe; nobody waits for a count that another thread makes.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/store/resident_pages.h"
#include "memstore/store/table_set.h"

namespace engram {

class PageCensus {
 public:
  using Read =
      std::function<absl::StatusOr<std::vector<ResidentPages>>(absl::Span<const AddressRange>)>;

  // `clock` outlives it. `read` is ReadResidentPages but in tests.
  explicit PageCensus(const Clock* clock, Read read = ReadResidentPages)
      : clock_(clock), read_(std::move(read)) {}

  // Counts the pages of `sets`, unless that was done of late or is being done. Where the kernel
  // counts nothing, what was known stays.
  void Refresh(const std::vector<std::shared_ptr<const TableSet>>& sets)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // As counted last; before that, as loading found it.
  ResidentPages Of(const TableSet& set) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Count {
    const TableSet* set;
    std::weak_ptr<const TableSet> held;  // once it is gone, another may lie where it was
    ResidentPages pages;
  };

  const Clock* const clock_;
  const Read read_;
  mutable Mutex mutex_;
  bool counting_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime next_ ABSL_GUARDED_BY(mutex_) = {};
  std::vector<Count> counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
