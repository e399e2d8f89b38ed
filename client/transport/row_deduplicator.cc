#include "client/transport/row_deduplicator.h"

#include <algorithm>
#include <limits>

namespace engram {
namespace {

// Slots that are kept from call to call: a prefill's of ten thousand tokens, 32 MiB.
constexpr size_t kMostKeptSlots = size_t{1} << 21;

// Fibonacci hashing (Knuth, TAOCP 3, 6.4): row ids are spread by the n-gram hash already, and those
// of one column lie in a range of their own.
uint64_t SlotOf(RowId id, int shift) { return (id * 0x9E3779B97F4A7C15u) >> shift; }

}  // namespace

template <typename Visit>
void RowDeduplicator::ForEach(absl::Span<const RowId> ids, Visit&& visit) {
  // At most half full.
  size_t wanted = 1024;
  int bits = 10;
  while (wanted < ids.size() * 2) {
    wanted *= 2;
    ++bits;
  }
  if (slots_.size() < wanted) {
    slots_.assign(wanted, Slot{});
    mark_ = 0;
  }
  if (mark_ == std::numeric_limits<uint32_t>::max()) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    mark_ = 0;
  }
  ++mark_;
  const uint64_t mask = wanted - 1;  // a small batch stays in a small part, which stays cached
  uint32_t distinct = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    uint64_t at = SlotOf(ids[i], 64 - bits);
    while (slots_[at].mark == mark_ && slots_[at].id != ids[i]) at = (at + 1) & mask;
    Slot& slot = slots_[at];
    const bool is_new = slot.mark != mark_;
    if (is_new) slot = {ids[i], mark_, distinct++};
    visit(static_cast<uint32_t>(i), slot.rank, is_new);
  }
  if (slots_.size() > kMostKeptSlots) std::vector<Slot>().swap(slots_);
}

bool RowDeduplicator::Distinct(absl::Span<const RowId> ids, std::vector<RowId>* distinct,
                               std::vector<uint32_t>* places, std::vector<RowCopy>* copies) {
  distinct->clear();
  places->clear();
  copies->clear();
  if (ids.size() < kMinRows || ids.size() > std::numeric_limits<uint32_t>::max()) return false;
  MutexLock lock(mutex_);
  if (!pays_ && ++skipped_ < kTryEvery) return false;
  skipped_ = 0;
  ForEach(ids, [&](uint32_t i, uint32_t rank, bool is_new) {
    if (is_new) {
      distinct->push_back(ids[i]);
      places->push_back(i);
    } else {
      copies->push_back({.from = (*places)[rank], .to = i});
    }
  });
  pays_ = copies->size() * kMinRepeatShare >= ids.size();
  if (pays_) return true;
  distinct->clear();
  places->clear();
  copies->clear();
  return false;
}

void RowDeduplicator::DistinctInverse(absl::Span<const RowId> ids, std::vector<RowId>* distinct,
                                      std::vector<uint32_t>* inverse) {
  MutexLock lock(mutex_);
  distinct->clear();
  inverse->resize(ids.size());
  ForEach(ids, [&](uint32_t i, uint32_t rank, bool is_new) {
    if (is_new) distinct->push_back(ids[i]);
    (*inverse)[i] = rank;
  });
}

}  // namespace engram
