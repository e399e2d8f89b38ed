#include "server/table_sets/page_census.h"

#include <algorithm>

#include "absl/time/time.h"

namespace engram {
namespace {

constexpr absl::Duration kLeastInterval = absl::Seconds(1);
constexpr int kIntervalToCost = 1000;

std::vector<AddressRange> RangesOf(const std::vector<std::shared_ptr<const TableSet>>& sets) {
  std::vector<AddressRange> ranges;
  for (const auto& set : sets) {
    const std::vector<AddressRange> of_set = set->page_ranges();
    ranges.insert(ranges.end(), of_set.begin(), of_set.end());
  }
  return ranges;
}

}  // namespace

void PageCensus::Refresh(const std::vector<std::shared_ptr<const TableSet>>& sets) {
  const MonotonicTime begin = clock_->Now();
  {
    MutexLock lock(mutex_);
    if (counting_ || begin < next_) return;
    counting_ = true;
  }
  const absl::StatusOr<std::vector<ResidentPages>> read = read_(RangesOf(sets));
  const MonotonicTime end = clock_->Now();
  MutexLock lock(mutex_);
  counting_ = false;
  next_ = end + std::max(kLeastInterval, (end - begin) * kIntervalToCost);
  if (!read.ok()) return;
  counts_.clear();
  size_t at = 0;
  for (const auto& set : sets) {
    Count& count = counts_.emplace_back(Count{set.get(), set, {}});
    for (size_t i = 0; i < set->page_ranges().size(); ++i) count.pages += (*read)[at++];
  }
}

ResidentPages PageCensus::Of(const TableSet& set) const {
  MutexLock lock(mutex_);
  for (const Count& count : counts_) {
    if (count.set == &set && !count.held.expired()) return count.pages;
  }
  return set.loaded_pages();
}

}  // namespace engram
