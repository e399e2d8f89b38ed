// What has to hold in a simulated run, and the first thing that did not.
//
// Kept apart from the router: what is counted is what was sent and written, not what the router
// says of itself.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"

namespace engram::sim {

enum class Invariant : uint8_t {
  kNone,
  kLanding,    // nothing lands from an attempt that lost, or in memory that was given back
  kOneSet,     // the rows of a batch are of the set that it asked for, and are those asked for
  kDeadline,   // a batch ends by its deadline
  kAttempts,   // attempts stay within 1.1 of the first ones
  kHedges,     // one first attempt of twenty may be hedged
  kGivenBack,  // memory is given back within a second of its batch's end, and all of it
  kSurvives,   // two replicas and one fault at a time: no batch fails
};
absl::string_view NameOf(Invariant invariant);

class Checker {
 public:
  // The first of a run is kept.
  void Fail(Invariant invariant, MonotonicTime now, absl::string_view what) {
    if (broken_ != Invariant::kNone) return;
    broken_ = invariant;
    at_ = now;
    what_ = std::string(what);
  }
  Invariant broken() const { return broken_; }
  MonotonicTime at() const { return at_; }
  const std::string& what() const { return what_; }

 private:
  Invariant broken_ = Invariant::kNone;
  MonotonicTime at_;
  std::string what_;
};

// Attempts of one client and set, as they were sent. Held to what RetryBudget and HedgeBudget
// (memstore/cluster/retry_budget.h) promise: of first attempts those that may be within the last
// ten seconds count, of re-sends those that surely are.
class SentAttempts {
 public:
  void CountFirst(MonotonicTime now);
  // False: one too many.
  bool CountResend(MonotonicTime now, uint64_t pieces);
  bool CountHedge();

 private:
  static constexpr uint32_t kSlots = 11;
  struct Slot {
    uint64_t firsts = 0;
    uint64_t resends = 0;
  };
  void MoveTo(MonotonicTime now);

  std::array<Slot, kSlots> slots_{};
  int64_t second_ = 0;
  uint64_t firsts_ = 0;
  uint64_t hedges_ = 0;
  uint64_t most_pieces_ = 0;
};

}  // namespace engram::sim
