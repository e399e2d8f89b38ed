// Looking for something for a moment before sleeping until it comes, where that does any good.
//
// Being woken costs about 20 us, most of a small batch's round trip, so it is worth looking first
// where what is waited for comes within a moment. It is not where it takes longer than that, and it
// may harm where others want the core: the thread that would bring it, say. So two things are
// watched, and either one alone stops the looking:
//   * how long waits took lately, slept through or not: what share of them was short enough to be
//     looked through. The share moves with each wait, so looking begins again when waits get short;
//   * how long the thread, when it was ready, waited for a core (run_delay.h), now and then. A
//     thread that sleeps waits for no core: once looking has stopped, this figure does not tell
//     whether looking would harm. So looking is tried again after a pause, which grows with every
//     try that ends the same way.
// What it costs where it does not look: two readings of the clock per wait, and one of the kernel's
// figure per kCrowdedInterval.
//
// The second question is for a thread that many wait for (engramd's), or that keeps its core while
// it looks: it comes back late from a yield on a crowded machine, where a thread that is woken runs
// at once. One that yields between looks, and waits for nobody but its own caller (a client's),
// takes nothing from others: there it is left out (Crowding::kHarmless).
//
// Thread-safe: threads that wait for the like share what was learned. Allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>

#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/os/run_delay.h"

namespace engram {

// How often the kernel is asked whether cores are wanted by more threads than there are.
inline constexpr absl::Duration kCrowdedInterval = absl::Milliseconds(2);
// For how long it does not look at most before it tries again: one interval of harm in 64.
inline constexpr absl::Duration kLongestPause = absl::Milliseconds(128);

class AdaptiveSpin {
 public:
  // What is read in the place of RunDelay, for tests.
  using ReadDelay = std::function<std::optional<RunDelay::Reading>()>;
  enum class Crowding { kStopsLooking, kHarmless };

  // Looks for at most `most` per wait; 0: never. `clock` outlives it.
  explicit AdaptiveSpin(absl::Duration most, const Clock& clock = RealClock(),
                        Crowding crowding = Crowding::kStopsLooking,
                        ReadDelay read_delay = nullptr);

  // `found()` looks once, without blocking, and returns true when what is waited for is there or
  // the caller's time for it is over. It may also handle what it found: that is not part of the
  // wait. `sleep()` blocks until what is waited for is there, or until there is another reason to
  // go on. At least one of the two is called. Between looks `found()` itself pauses or yields, as
  // suits what it looks at.
  template <typename Found, typename Sleep>
  void Wait(const Found& found, const Sleep& sleep) {
    if (most_ <= absl::ZeroDuration()) {
      sleep();
      return;
    }
    const MonotonicTime begin = clock_.Now();
    MonotonicTime now = begin;
    bool there = false;
    if (MayLook(begin)) {
      looked_.store(true, std::memory_order_relaxed);
      there = found();
      while (!there && (now = clock_.Now()) - begin < most_) there = found();
    }
    if (!there) {
      sleep();
      now = clock_.Now();
    }
    Ended(now - begin);
  }

  // Whether the next wait begins with looking, as far as is known.
  bool looks() const {
    return most_ > absl::ZeroDuration() && !crowded_.load(std::memory_order_relaxed) &&
           short_share_.load(std::memory_order_relaxed) >= kEnough;
  }

 private:
  // Shares are of 256. Three waits of four may be long before looking stops: on a core that nobody
  // else wants a look in vain costs nothing but power.
  static constexpr int32_t kAll = 256, kEnough = kAll / 4;

  bool MayLook(MonotonicTime now);
  void AskWhetherCrowded(MonotonicTime now);
  // The thread waited for a core in the interval that ends now, or did not.
  void Judge(bool waited, MonotonicTime now);
  void Ended(absl::Duration took);

  const absl::Duration most_;
  const Clock& clock_;
  const Crowding crowding_;
  // Two waits that end at the same moment may count as one.
  std::atomic<int32_t> short_share_{kAll};
  std::atomic<bool> crowded_{false};
  std::atomic<bool> looked_{false};  // since asked_
  std::atomic<int64_t> next_question_ns_{0};
  // Whoever sets it may ask; the others go by what is known.
  std::atomic_flag asking_;
  RunDelay run_delay_;
  const ReadDelay read_delay_;
  MonotonicTime asked_;
  absl::Duration pause_ = kCrowdedInterval;
  MonotonicTime paused_until_;
  uint32_t unanswered_ = 0;
  std::optional<RunDelay::Reading> reading_;  // at asked_
};

}  // namespace engram
