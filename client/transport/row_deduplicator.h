// Row ids that repeat within a batch, taken out before they travel.
//
// Prompts repeat themselves, so do their n-grams: of a prefill's rows many are asked for again and
// again. Where rows cross a wire it pays to fetch each once and to copy it; where they are read
// from memory it does not. Exact for any ids. Reuses its memory: warm, it allocates nothing, but
// for batches of more than half a million ids a layer, whose memory is let go.
// Thread-safe: a lock for each call. The hash table is its own, for absl::flat_hash_map takes 1.1
// to 1.7 times as long and allocates in each call (row_deduplicator_benchmark).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/mutex.h"

namespace engram {

// Place `to` of a layer's rows takes what lies at place `from`, which is smaller.
struct RowCopy {
  uint32_t from = 0;
  uint32_t to = 0;
  friend bool operator==(const RowCopy&, const RowCopy&) = default;
};

class RowDeduplicator {
 public:
  // The distinct ids in the order of their first place, that place for each, and the places that
  // repeat one of them, ascending: ids[i] == (*distinct)[k] for i = (*places)[k], and ids[c.to] ==
  // ids[c.from] for every copy c. False, and all three empty, when it is not done: the batch is
  // small, or batches of late repeated themselves too little (one in kTryEvery is looked at all the
  // same). Cost: a hash look-up an id.
  bool Distinct(absl::Span<const RowId> ids, std::vector<RowId>* distinct,
                std::vector<uint32_t>* places, std::vector<RowCopy>* copies);

  // Distinct and where each of the ids lies among them, for a consumer that un-permutes by itself:
  // ids[i] == (*distinct)[(*inverse)[i]]. Always done. At most 2^32-1 ids.
  void DistinctInverse(absl::Span<const RowId> ids, std::vector<RowId>* distinct,
                       std::vector<uint32_t>* inverse);

  // Below this a batch's time is its round trip's.
  static constexpr size_t kMinRows = 4096;
  // Fewer repeats than one row in this many cost more to find than to carry.
  static constexpr uint64_t kMinRepeatShare = 8;
  static constexpr uint32_t kTryEvery = 32;

 private:
  // Open addressing; a slot is in use when its mark is the call's.
  struct Slot {
    RowId id = 0;
    uint32_t mark = 0;
    uint32_t rank = 0;
  };
  // visit(i, rank, is_new) for each id.
  template <typename Visit>
  void ForEach(absl::Span<const RowId> ids, Visit&& visit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);  // a power of two
  uint32_t mark_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t skipped_ ABSL_GUARDED_BY(mutex_) = 0;  // calls since the last look
  bool pays_ ABSL_GUARDED_BY(mutex_) = true;
};

}  // namespace engram
