#include "tests/sim/rollout.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/store.h"

namespace engram::sim {
namespace {

constexpr absl::Duration kStep = absl::Milliseconds(50);
constexpr absl::Duration kLeastRest = absl::Seconds(3);
constexpr absl::Duration kMostRest = absl::Seconds(12);
// Shorter than engramd's, so that it is over within a run.
constexpr absl::Duration kGrace = absl::Seconds(5);
// A rollout of many is at as many stores at once as it takes to be done in a second.
constexpr uint32_t kSteps = 20;

}  // namespace

void Rollout::Begin() {
  if (!world_.options.rolls_out) return;
  rests_until_ = world_.start + world_.draws.Between(kLeastRest, kMostRest);
  world_.events.Add(rests_until_, EventKind::kRollout);
}

template <typename Do>
bool Rollout::Each(Do&& act) {
  const auto stores = static_cast<uint32_t>(world_.stores.size());
  for (uint32_t i = 0; i < 1 + stores / kSteps && next_ < stores; ++i) {
    if (!act(*world_.stores[next_])) return false;  // asked again at the next step
    ++next_;
  }
  if (next_ < stores) return false;
  next_ = 0;
  return true;
}

void Rollout::Step() {
  if (world_.now >= world_.end) return;
  world_.events.Add(world_.now + kStep, EventKind::kRollout);
  switch (phase_) {
    case Phase::kResting:
      if (world_.now < rests_until_) return;
      ++set_;
      ++world_.figures.rollouts;
      phase_ = Phase::kStaging;
      return;
    case Phase::kStaging:
      if (Each([&](FakeStore& store) { return store.Stage(set_); })) phase_ = Phase::kFlipping;
      return;
    case Phase::kFlipping:
      if (!Each([&](FakeStore& store) { return store.Publish(set_); })) return;
      phase_ = Phase::kRetiring;
      retires_at_ = world_.now + kGrace;
      return;
    case Phase::kRetiring:
      if (next_ == 0 && world_.now < retires_at_ &&
          std::any_of(world_.stores.begin(), world_.stores.end(),
                      [&](const auto& store) { return store->HearsHolderOf(set_ - 1); })) {
        return;
      }
      if (!Each([&](FakeStore& store) { return store.Retire(set_ - 1); })) return;
      phase_ = Phase::kResting;
      rests_until_ = world_.now + world_.draws.Between(kLeastRest, kMostRest);
      return;
  }
}

}  // namespace engram::sim
