// One line of how far a run of many seeds is, rewritten every two seconds; nothing of what takes
// less.
#pragma once

#include <cstdint>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram::sim {

class Progress {
 public:
  static constexpr absl::Duration kEvery = absl::Seconds(2);

  ~Progress() {
    if (is_shown_) absl::FPrintF(stderr, "\n");
  }

  void Show(uint64_t done, uint64_t seeds, double seconds, uint32_t of_seconds) {
    const MonotonicTime now = RealClock().Now();
    if (now < shown_at_ + kEvery) return;
    shown_at_ = now;
    absl::FPrintF(stderr, "\r%d of %d seeds, %.1f of %d simulated seconds, %.0f s so far  ", done,
                  seeds, seconds, of_seconds, Took());
    is_shown_ = true;
  }
  // In seconds.
  double Took() const { return absl::ToDoubleSeconds(RealClock().Now() - began_at_); }

 private:
  const MonotonicTime began_at_ = RealClock().Now();
  MonotonicTime shown_at_ = began_at_;
  bool is_shown_ = false;
};

}  // namespace engram::sim
