// How much may be sent beyond the first attempts: re-sends (RetryBudget), hedges (HedgeBudget).
//
// A cluster in trouble gets worse where every client asks twice. So re-sends and hedges are a share
// of the first attempts, whatever fails. What is sent again because its connection broke is outside
// of it: it was lost once, and is sent once.
//
// By the times that are passed in, which do not go back. A value of fixed size; belongs to one
// thread at a time.
#pragma once

#include <array>
#include <cstdint>

#include "memstore/base/clock.h"

namespace engram {

// Of one piece.
class RetryBudget {
 public:
  // Attempts stay below 1.1 times the first ones: a tenth more load does not topple stores that
  // hold up, and a store that is lost takes a share of the parts of milliseconds, not of 10 s.
  static constexpr uint64_t kShare = 10;
  // Seconds over which both are counted: longer than a store takes to be ejected and replaced.
  static constexpr uint32_t kSeconds = 10;
  // Beside the share: a client of few batches, too, outlives the loss of a store.
  static constexpr uint64_t kLeast = 10;

  void CountFirst(MonotonicTime now);
  // Takes one re-send out of the budget; false: there is none left.
  bool Take(MonotonicTime now);

 private:
  // A second more than are counted: a re-send counts until it surely is out of the 10 s, a first
  // attempt only while it surely is within.
  static constexpr uint32_t kSlots = kSeconds + 1;
  struct Slot {
    uint64_t firsts = 0;
    uint64_t resends = 0;
  };
  void MoveTo(MonotonicTime now);

  std::array<Slot, kSlots> slots_{};  // of the second s, s % kSlots
  int64_t second_ = 0;
};

// Of one client.
class HedgeBudget {
 public:
  static constexpr uint32_t kShare = 20;  // one of so many first attempts: 5 %
  static constexpr uint32_t kBurst = 32;  // as many are saved up at most

  void CountFirst() { saved_ = saved_ < kShare * kBurst ? saved_ + 1 : saved_; }
  bool Has() const { return saved_ >= kShare; }
  bool Take() {
    if (!Has()) return false;
    saved_ -= kShare;
    return true;
  }

 private:
  uint32_t saved_ = 0;  // first attempts
};

}  // namespace engram
