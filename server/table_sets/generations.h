// Which generation of its name each table set is: a number that orders the publications of a name.
//
// 0 is what engramd was started with, where no publication of that name and set is kept. A
// publication is one more than the highest that was seen of its name, or what its operator says: a
// set that is published on many engramds gets one number on all of them. Numbers go on growing when
// a name was taken and is published again. Thread-safe; what is kept over a restart is the
// record's (publication_record.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"
#include "server/table_sets/publication_record.h"

namespace engram {

class Generations {
 public:
  // Of names and sets as they were kept: each counts as a publication. One without an id is of a
  // name that was taken.
  explicit Generations(absl::Span<const Publication> kept);

  // What the set would be if it were published under the name now; nothing changes. `asked`:
  // nothing, or what the operator wants. A set that was published last keeps its number, unless a
  // higher one is asked for. INVALID_ARGUMENT: no number of a publication; FAILED_PRECONDITION:
  // lower than the highest of the name, or that one, which is another set's.
  absl::StatusOr<uint64_t> Next(const std::string& name, const std::string& id,
                                std::optional<uint64_t> asked) const ABSL_LOCKS_EXCLUDED(mutex_);
  // It was published, with a number that Next gave.
  void Publish(const std::string& name, const std::string& id, uint64_t generation)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The set is served because engramd was started with it.
  void Start(const std::string& name, const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  // The name was taken from its set.
  void Take(const std::string& name) ABSL_LOCKS_EXCLUDED(mutex_);

  // Nothing: no such set was ever served.
  std::optional<uint64_t> Of(const std::string& id) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Changes whenever the number of a set may have. One load.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  struct Name {
    uint64_t highest = 0;
    std::string id;  // that has it, where the name leads to it
  };

  mutable Mutex mutex_;
  std::map<std::string, Name> names_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> of_
      ABSL_GUARDED_BY(mutex_);  // by id, at most one for each publication
  std::atomic<uint64_t> version_{0};
};

}  // namespace engram
