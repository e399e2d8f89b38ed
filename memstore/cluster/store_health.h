// Whether one store is asked, left alone for a while, or asked no more.
//
// A store that fails is ejected: for half a second at first, twice as long each time it fails
// again. When its time is over it is on trial: one part at a time goes there until one succeeds. A
// store whose rows were damaged is fenced, and stays so as long as it is this instance and serves
// this publication of the set.
//
// By the times that are passed in; a value, belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <random>

#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram {

enum class StoreStanding { kUp, kOnTrial, kEjected, kFenced };

enum class StoreFailure {
  kError,    // it answered that it cannot
  kBroken,   // its connection broke
  kSilent,   // it said nothing for kSilence
  kDamaged,  // it said that its rows are damaged
};

class StoreHealth {
 public:
  // Errors in a row: one or two may be a batch's, or a restart's last words.
  static constexpr uint32_t kErrorsBeforeEjection = 3;
  // A process that restarts under a service manager is back after about as long.
  static constexpr absl::Duration kFirstEjection = absl::Milliseconds(500);
  // Asked twice a minute a dead store costs nothing, and one that came back serves soon.
  static constexpr absl::Duration kLongestEjection = absl::Seconds(30);

  StoreStanding standing() const { return standing_; }
  // When it is to be tried again; infinite where it is not ejected.
  MonotonicTime ejected_until() const { return until_; }

  // True where it is ejected or fenced by that, and was neither before. The time back is drawn
  // between 0.8 and 1.2 of what is due, so that clients do not come back together.
  bool Failed(StoreFailure failure, MonotonicTime now, std::mt19937_64& random);
  // A part landed.
  void Succeeded();
  // It said anything: one that was ejected for its silence is up. True where that changed it.
  bool Heard();
  // True where its time is over, and it is on trial from now on.
  bool TryAgain(MonotonicTime now);

 private:
  void Eject(MonotonicTime now, std::mt19937_64& random);

  StoreStanding standing_ = StoreStanding::kUp;
  MonotonicTime until_ = MonotonicTime::Infinite();
  uint32_t errors_ = 0;     // in a row
  uint32_t ejections_ = 0;  // in a row
  bool for_silence_ = false;
};

}  // namespace engram
