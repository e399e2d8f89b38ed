#include "tests/sim/faults.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/store.h"
#include "tests/sim/worker.h"

namespace engram::sim {
namespace {

// Between two of them, where several may be under way: with eight stores one or two are.
constexpr absl::Duration kMeanGap = absl::Milliseconds(1500);
// From one's end to the next, where they come one at a time: what was ejected is back by then.
constexpr absl::Duration kSettleTime = absl::Seconds(4);
constexpr absl::Duration kLameDuck = absl::Seconds(1);
constexpr absl::Duration kLook = absl::Milliseconds(10);
constexpr double kQuietCrashes = 0.3;
constexpr double kWholeOutages = 0.4;  // of links: those of all workers
constexpr double kBreaks = 0.5;        // of dark links: those that break

absl::string_view NameOf(FaultKind kind) {
  static constexpr absl::string_view kNames[kFaultKinds] = {
      "crash",   "pause",      "slow",  "lost link", "discovery",
      "restart", "lease loss", "burst", "lie",       "damage"};
  return kNames[static_cast<uint32_t>(kind)];
}

}  // namespace

Faults::Faults(World& world) : world_(world) {
  for (uint32_t kind = 0; kind < kFaultKinds; ++kind) {
    if ((world_.options.faults >> kind & 1) != 0) kinds_.push_back(static_cast<FaultKind>(kind));
  }
}

void Faults::Begin() {
  if (!kinds_.empty()) world_.events.Add(world_.start + absl::Seconds(3), EventKind::kFault);
}

void Faults::Plan() {
  if (world_.options.one_at_a_time) {
    if (is_over()) world_.events.Add(world_.now + kSettleTime, EventKind::kFault);
  } else {
    world_.events.Add(world_.now + world_.draws.Around(kMeanGap), EventKind::kFault);
  }
}

// One that is well, so that faults do not undo each other; the number of stores: none was found.
uint32_t Faults::DrawStore() {
  for (int tries = 0; tries < 8; ++tries) {
    const auto store = static_cast<uint32_t>(world_.draws.Below(world_.options.stores));
    if (world_.stores[store]->is_well()) return store;
  }
  return world_.options.stores;
}

void Faults::Later(absl::Duration in, FaultKind kind, uint32_t store, uint32_t step) {
  world_.events.Add(world_.now + in, EventKind::kFaultEnd, static_cast<uint32_t>(kind), store,
                    step);
}

void Faults::Next() {
  if (world_.now >= world_.end) return;
  const FaultKind kind = kinds_[world_.draws.Below(kinds_.size())];
  const uint32_t store = DrawStore();
  if (store < world_.options.stores) {
    ++world_.figures.faults;
    ++under_way_;
    world_.Log(absl::StrCat(NameOf(kind), " of store ", store));
    Start(kind, store);
  }
  Plan();
}

void Faults::Start(FaultKind kind, uint32_t place) {
  Draws& draws = world_.draws;
  FakeStore& store = *world_.stores[place];
  absl::Duration takes = draws.Between(absl::Milliseconds(50), absl::Seconds(4));
  switch (kind) {
    case FaultKind::kCrash:
      store.Crash(/*quiet=*/draws.Chance(kQuietCrashes));
      world_.registered[place] = 0;
      break;
    case FaultKind::kPause:
      store.PauseUntil(world_.now + takes);
      break;
    case FaultKind::kSlow:
      store.SetSlowness(5 + 300 * draws.Share() * draws.Share());
      break;
    case FaultKind::kLostLink: {
      const bool is_whole = draws.Chance(kWholeOutages);
      const bool breaks = draws.Chance(kBreaks);
      for (const auto& worker : world_.workers) {
        if (!is_whole && draws.Chance(0.8)) continue;
        if (breaks) worker->BreakLater(place);
        worker->Darken(place, world_.now + takes);
      }
      break;
    }
    case FaultKind::kDiscovery:
      world_.discovery_up = false;
      break;
    case FaultKind::kRestart:
      store.AnnounceEnd();
      takes = kLameDuck;
      break;
    case FaultKind::kLeaseLoss:
      for (const auto& worker : world_.workers) {
        if (draws.Chance(0.3)) worker->LoseLease(place);
      }
      break;
    case FaultKind::kBurst:
      for (const auto& worker : world_.workers) {
        if (draws.Chance(0.1)) worker->SetBurst(8);
      }
      break;
    case FaultKind::kLie:
      store.SetLying();
      break;
    case FaultKind::kDamage:
      store.SetDamaged();
      break;
  }
  Later(takes, kind, place);
}

void Faults::End(FaultKind kind, uint32_t place, uint32_t step) {
  FakeStore& store = *world_.stores[place];
  switch (kind) {
    case FaultKind::kCrash:
      store.Start();
      break;
    case FaultKind::kPause:
      store.Resume();
      break;
    case FaultKind::kSlow:
      store.SetSlowness(1);
      break;
    case FaultKind::kDiscovery:
      world_.discovery_up = true;
      break;
    case FaultKind::kBurst:
      for (const auto& worker : world_.workers) worker->SetBurst(1);
      break;
    case FaultKind::kLie:  // nobody believes this instance any more
    case FaultKind::kDamage:
    case FaultKind::kRestart:
      // It goes once what it took is answered, and comes back.
      if (step == 1) {
        store.Start();
        break;
      }
      store.RefuseNew();
      if (kind == FaultKind::kRestart && !store.is_empty()) return Later(kLook, kind, place);
      store.Crash(/*quiet=*/false);
      world_.registered[place] = 0;
      return Later(world_.draws.Between(absl::Milliseconds(300), absl::Seconds(3)), kind, place, 1);
    case FaultKind::kLostLink:
    case FaultKind::kLeaseLoss:
      break;
  }
  --under_way_;
  if (world_.options.one_at_a_time) Plan();
}

}  // namespace engram::sim
