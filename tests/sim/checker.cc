#include "tests/sim/checker.h"

#include <algorithm>

#include "memstore/cluster/retry_budget.h"
#include "tests/sim/options.h"

namespace engram::sim {

absl::string_view NameOf(Invariant invariant) {
  switch (invariant) {
    case Invariant::kNone:
      return "none";
    case Invariant::kLanding:
      return "nothing lands from an attempt that lost";
    case Invariant::kOneSet:
      return "one set a batch";
    case Invariant::kDeadline:
      return "a batch ends by its deadline";
    case Invariant::kAttempts:
      return "attempts stay within 1.1 of the first ones";
    case Invariant::kHedges:
      return "hedges stay within 5 %";
    case Invariant::kGivenBack:
      return "every buffer is given back";
    case Invariant::kSurvives:
      return "one fault at a time fails no batch";
  }
  return "";
}

absl::string_view NameOf(Bug bug) {
  static constexpr absl::string_view kNames[kBugs] = {
      "none",        "copies-unasked", "drains-too-soon", "answers-new-set", "ticks-late",
      "sends-again", "hedges-freely",  "forgets-replies", "keeps-old-map"};
  return kNames[static_cast<uint32_t>(bug)];
}

void SentAttempts::MoveTo(MonotonicTime now) {
  const int64_t second = now.nanoseconds() / 1'000'000'000;
  const int64_t passed = std::min<int64_t>(second - second_, kSlots);
  for (int64_t i = 0; i < passed; ++i) slots_[(second - i) % kSlots] = Slot();
  second_ = second;
}

void SentAttempts::CountFirst(MonotonicTime now) {
  MoveTo(now);
  ++slots_[second_ % kSlots].firsts;
  ++firsts_;
}

bool SentAttempts::CountResend(MonotonicTime now, uint64_t pieces) {
  MoveTo(now);
  most_pieces_ = std::max(most_pieces_, pieces);
  ++slots_[second_ % kSlots].resends;
  uint64_t firsts = 0, resends = 0;
  for (const Slot& slot : slots_) {
    firsts += slot.firsts;
    resends += slot.resends;
  }
  resends -= slots_[(second_ + 1) % kSlots].resends;  // the oldest second
  return resends <= firsts / RetryBudget::kShare + RetryBudget::kLeast * most_pieces_;
}

bool SentAttempts::CountHedge() { return ++hedges_ * HedgeBudget::kShare <= firsts_; }

}  // namespace engram::sim
