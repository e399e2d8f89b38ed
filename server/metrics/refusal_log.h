// The last refusals of clients and of lookups, for the status page: when, who, why, how often.
//
// Bounded: kMost entries, and of each text QuoteForMessage's bytes. A refusal that repeats one of
// them (same way, reason and peer, whatever its port) is counted there; one that is new takes the
// place of the oldest. Of each second kMostPerSecond are looked at and the others left out, so
// whoever is refused however often costs those who are served nothing: metrics count them all.
// Thread-safe. Cost: two short locks and the peer's text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

struct RecentRefusal {
  absl::Duration ago;  // since it was refused last
  uint64_t count = 1;
  std::string way;      // "attach over grpc"
  std::string peer;     // as gRPC has it, without a port; or "pid 12, uid 1000"
  std::string reason;   // "unknown_name"
  std::string message;  // what it was told last
};

class RefusalLog {
 public:
  static constexpr size_t kMost = 32;
  static constexpr uint64_t kMostPerSecond = 1000;

  // `clock` outlives it.
  explicit RefusalLog(const Clock* clock) : clock_(clock) {}

  void Add(absl::string_view way, absl::string_view reason, absl::string_view peer,
           absl::string_view message) ABSL_LOCKS_EXCLUDED(mutex_);
  // The latest first.
  std::vector<RecentRefusal> Recent() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Entry {
    MonotonicTime when;
    RecentRefusal refusal;
  };

  bool MayAdd(MonotonicTime now) ABSL_LOCKS_EXCLUDED(mutex_);

  const Clock* const clock_;
  mutable Mutex mutex_;
  MonotonicTime second_ ABSL_GUARDED_BY(mutex_) = {};  // that they are counted in
  uint64_t added_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // the latest first
};

}  // namespace engram
