// How much of this process's memory lies on each NUMA node, as the kernel counts it in
// /proc/self/numa_maps.
//
// Counting walks the page tables: a millisecond or so with huge pages, a second for 189 GiB on
// small ones. So what was counted is kept for ten seconds, and for a thousand times as long as
// counting took. Thread-safe; nobody waits for a count that another thread makes.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <map>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

using BytesByNode = std::map<uint32_t, uint64_t>;

// From text as numa_maps has it; what is no line of it is passed over.
BytesByNode CountBytesByNode(std::istream& numa_maps);
// The same from the kernel's books; empty where it has none (no NUMA in the kernel, no /proc).
BytesByNode ReadBytesByNode();

class NumaCensus {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(10);

  // `clock` outlives it. `read` is ReadBytesByNode but in tests.
  explicit NumaCensus(const Clock* clock, std::function<BytesByNode()> read = ReadBytesByNode)
      : clock_(clock), read_(std::move(read)) {}

  // Counts, unless that was done of late or is being done.
  void Refresh() ABSL_LOCKS_EXCLUDED(mutex_);
  BytesByNode Read() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const Clock* const clock_;
  const std::function<BytesByNode()> read_;
  mutable Mutex mutex_;
  bool counting_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime next_ ABSL_GUARDED_BY(mutex_) = {};
  BytesByNode bytes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
