// Verifies table sets in memory again and again, for as long as they are served: what memory breaks
// after loading is found.
//
// One thread, "scrub", at a fixed rate. It goes through all that is served, set by set, and holds a
// set for no longer than a step (resident_verifier.h): one that is retired is let go of, whatever
// remains of it. Thread-safe. Costs a lookup nothing but the memory bandwidth that it takes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/base/pace.h"
#include "memstore/store/resident_verifier.h"
#include "memstore/store/table_set.h"

namespace engram {

struct ScrubberOptions {
  uint32_t mib_per_s = 0;  // 0: nothing by itself, ScrubNow alone
  // What is to be verified, asked when a pass begins.
  std::function<std::vector<std::shared_ptr<const TableSet>>()> sets;
  // A set is damaged; the status (DATA_LOSS) says where. It comes once from every pass and every
  // ScrubNow that meets the set: whoever fences it takes it out of sets(). From the thread that
  // found it, so it may come from several at once.
  std::function<void(const TableSet&, const absl::Status&)> on_mismatch;
};

struct ScrubProgress {
  uint64_t bytes_verified = 0;  // since it was created, ScrubNow's too
  uint64_t passes = 0;          // that went through all that was served, damaged sets too
  uint64_t mismatches = 0;      // as often as on_mismatch was called
  // Of the thread's pass under way; 0 of 0 between two. A set that was let go of, or is damaged,
  // counts as done.
  uint64_t pass_bytes_done = 0;
  uint64_t pass_bytes_total = 0;
};

class Scrubber {
 public:
  // A pass begins no sooner after the one before: small sets are not gone through without a rest.
  static constexpr absl::Duration kLeastPassTime = absl::Seconds(1);

  // RESOURCE_EXHAUSTED when the thread can't be started. on_mismatch may come before it returns.
  // `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<Scrubber>> Create(ScrubberOptions options,
                                                          Clock& clock = RealClock());
  // Ends within a step. ScrubNow may not be under way.
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // Verifies the whole set now, in the caller's thread, beside what the other one does, and as fast
  // as a core reads memory: lookups on the same memory feel that. `go_on`, which may be empty, is
  // told after each step what is done; false ends it: CANCELLED. DATA_LOSS after on_mismatch was
  // called.
  absl::Status ScrubNow(const TableSet& set,
                        const std::function<bool(uint64_t done, uint64_t total)>& go_on);

  ScrubProgress progress() const;

 private:
  struct Share {  // of a pass
    std::weak_ptr<const TableSet> set;
    uint64_t bytes = 0;
  };

  Scrubber(ScrubberOptions options, Clock& clock) : options_(std::move(options)), clock_(clock) {}
  void Run();
  bool Pass(Pace& pace);  // it and the next one: false when it is to end
  bool ScrubInSteps(const Share& share, Pace& pace);
  // DATA_LOSS is counted and told.
  absl::StatusOr<uint64_t> CountedStep(const TableSet& set, ResidentVerifier& verifier);
  bool RestUntil(MonotonicTime due);  // false when it is to end

  const ScrubberOptions options_;
  Clock& clock_;
  std::atomic<uint64_t> bytes_verified_{0};
  std::atomic<uint64_t> passes_{0};
  std::atomic<uint64_t> mismatches_{0};
  std::atomic<uint64_t> pass_bytes_done_{0};
  std::atomic<uint64_t> pass_bytes_total_{0};

  Mutex mutex_;
  CondVar end_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: what it uses is there before it
};

}  // namespace engram
