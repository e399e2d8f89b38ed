#include "memstore/cluster/retry_budget.h"

#include <algorithm>

namespace engram {

void RetryBudget::MoveTo(MonotonicTime now) {
  constexpr int64_t kNanoseconds = 1'000'000'000;
  const int64_t second = now.nanoseconds() / kNanoseconds;
  const int64_t passed = std::min<int64_t>(second - second_, kSlots);
  for (int64_t i = 0; i < passed; ++i) slots_[(second - i) % kSlots] = Slot();
  second_ = std::max(second_, second);
}

void RetryBudget::CountFirst(MonotonicTime now) {
  MoveTo(now);
  ++slots_[second_ % kSlots].firsts;
}

bool RetryBudget::Take(MonotonicTime now) {
  MoveTo(now);
  uint64_t firsts = 0, resends = 0;
  for (const Slot& slot : slots_) {
    firsts += slot.firsts;
    resends += slot.resends;
  }
  firsts -= slots_[(second_ + 1) % kSlots].firsts;  // the oldest second
  if (resends >= firsts / kShare + kLeast) return false;
  ++slots_[second_ % kSlots].resends;
  return true;
}

}  // namespace engram
