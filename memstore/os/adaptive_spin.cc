#include "memstore/os/adaptive_spin.h"

#include <algorithm>
#include <utility>

namespace engram {
namespace {

// A wait that was slept through and lasted no longer than this beyond the limit would have been
// found by looking: it includes being woken.
constexpr absl::Duration kWaking = absl::Microseconds(20);
// Of the time between two questions. Between one client and one loop on two cores it is up to 0.2
// now and then, where both were woken on the same core, though looking does good there; with 8
// clients on two cores it is far above (tests/bench/RESULTS.md).
constexpr double kCrowdedShare = 0.25;
// An interval of looking that took nobody's core shortens the next pause by a part of so many: one
// such interval among several that did says little.
constexpr int kForgetting = 16;
// What was seen counts until so many questions in a row had no answer: it is a new thread that
// asks each time, say.
constexpr uint32_t kMostUnanswered = 8;

}  // namespace

AdaptiveSpin::AdaptiveSpin(absl::Duration most, const Clock& clock, Crowding crowding,
                           ReadDelay read_delay)
    : most_(most), clock_(clock), crowding_(crowding), read_delay_(std::move(read_delay)) {}

bool AdaptiveSpin::MayLook(MonotonicTime now) {
  if (crowding_ == Crowding::kStopsLooking &&
      now.nanoseconds() >= next_question_ns_.load(std::memory_order_relaxed) &&
      !asking_.test_and_set(std::memory_order_acquire)) {
    AskWhetherCrowded(now);
    asking_.clear(std::memory_order_release);
  }
  return looks();
}

void AdaptiveSpin::AskWhetherCrowded(MonotonicTime now) {
  next_question_ns_.store((now + kCrowdedInterval).nanoseconds(), std::memory_order_relaxed);
  const std::optional<RunDelay::Reading> reading =
      read_delay_ == nullptr ? run_delay_.Read() : read_delay_();
  if (reading.has_value() && reading_.has_value() && reading->thread == reading_->thread) {
    const absl::Duration delay = absl::Nanoseconds(reading->delay_ns - reading_->delay_ns);
    Judge(delay > kCrowdedShare * (now - asked_), now);
    unanswered_ = 0;
  } else if (++unanswered_ >= kMostUnanswered) {
    crowded_.store(false, std::memory_order_relaxed);
  }
  reading_ = reading;
  asked_ = now;
}

void AdaptiveSpin::Judge(bool waited, MonotonicTime now) {
  const bool looked = looked_.exchange(false, std::memory_order_relaxed);
  if (waited) {
    paused_until_ = std::max(paused_until_, now + (looked ? pause_ : kCrowdedInterval));
    if (looked) pause_ = std::min(2 * pause_, kLongestPause);
    crowded_.store(true, std::memory_order_relaxed);
  } else if (looked) {
    pause_ = std::max(pause_ - pause_ / kForgetting, kCrowdedInterval);
  } else if (now >= paused_until_) {
    crowded_.store(false, std::memory_order_relaxed);
  }
}

void AdaptiveSpin::Ended(absl::Duration took) {
  const int32_t now = took <= most_ + kWaking ? kAll : 0;
  const int32_t share = short_share_.load(std::memory_order_relaxed);
  if (now == share) return;
  // An eighth of the way, and never stuck short of the end.
  const int32_t step = (now - share) / 8;
  short_share_.store(share + (step != 0 ? step : (now > share ? 1 : -1)),
                     std::memory_order_relaxed);
}

}  // namespace engram
