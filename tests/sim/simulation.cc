#include "tests/sim/simulation.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "memstore/base/check.h"
#include "memstore/cluster/testing/cluster_scheme.h"
#include "tests/sim/faults.h"
#include "tests/sim/rollout.h"
#include "tests/sim/store.h"
#include "tests/sim/worker.h"

namespace engram::sim {
namespace {

// After its end, until all that is open has ended: longer than any deadline, pause and map's wait.
constexpr absl::Duration kTail = absl::Seconds(15);
constexpr uint64_t kEventsBetweenLooks = 1 << 16;
// What V4.1's heads can be cut into.
constexpr uint32_t kMostPartitions = 8;

uint32_t DrawPartitions(const SimOptions& options, Draws& draws) {
  if (options.partitions > 0) return options.partitions;
  uint32_t most = 1;
  while (most * 2 <= kMostPartitions && most * 2 * 2 <= options.stores) most *= 2;
  uint32_t partitions = most;
  while (partitions > 1 && draws.Chance(0.4)) partitions /= 2;
  return partitions;
}

}  // namespace

World::World(const SimOptions& from)
    : options(from),
      scheme(testing_cluster::Scheme()),
      now(clock.Now()),
      start(now),
      end(now + absl::Seconds(from.seconds)),
      draws(from.seed),
      router_random(from.seed),
      views(scheme),
      registered(from.stores, 1) {
  partitions = DrawPartitions(options, draws);
  // All copy, all are written by devices, or some are.
  const uint64_t kind = draws.Below(3);
  device_share = kind == 0 || !options.by_device ? 0 : kind == 1 ? 1 : 0.5;
  for (uint32_t i = 0; i < options.stores; ++i) {
    stores.push_back(std::make_unique<FakeStore>(*this, i));
  }
  // Skewed: one in eight asks for four times as much as the rest.
  for (uint32_t i = 0; i < options.workers; ++i) {
    workers.push_back(std::make_unique<Worker>(*this, i, (i % 8 == 0 ? 4.0 : 1.0) / 1.375));
  }
}

World::~World() = default;

absl::Duration World::Latency() {
  const uint64_t drawn = draws.Next();
  const absl::Duration usual = absl::Nanoseconds(20'000 + (drawn & 0xFFFF));
  const uint64_t rest = drawn >> 16;
  if (rest % 10'000 == 0) return usual + absl::Milliseconds(200);
  if (rest % 200 == 1) return usual + absl::Microseconds((rest >> 20) % 20'000);
  return usual;
}

void World::Log(absl::string_view text) const {
  if (!options.verbose) return;
  absl::FPrintF(stderr, "%10.6f %s\n", absl::ToDoubleSeconds(now - start), text);
}

namespace {

class Simulation {
 public:
  explicit Simulation(const SimOptions& options)
      : world_(options), faults_(world_), rollout_(world_) {}

  Outcome Run(const std::function<void(double)>& progress) {
    for (const auto& worker : world_.workers) worker->Begin();
    faults_.Begin();
    rollout_.Begin();
    const MonotonicTime last = world_.end + kTail;
    while (!world_.events.empty() && world_.checker.broken() == Invariant::kNone) {
      const Event event = world_.events.Take();
      const MonotonicTime at = MonotonicTime::FromNanoseconds(event.at_ns);
      if (at > last || (at > world_.end && IsQuiet())) break;
      if (at > world_.now) {
        world_.clock.Advance(at - world_.now);
        world_.now = world_.clock.Now();
      }
      digest_ = SplitMix64Mix(digest_ ^ static_cast<uint64_t>(event.at_ns) ^
                              static_cast<uint64_t>(event.kind) << 56 ^ uint64_t{event.a} << 32);
      Do(event);
      if (++world_.figures.events % kEventsBetweenLooks == 0 && progress) {
        progress(absl::ToDoubleSeconds(world_.now - world_.start));
      }
    }
    return Finish();
  }

 private:
  // Looked at a thousand times a second at most: it looks at every worker.
  bool IsQuiet() {
    if (world_.now < looked_at_ + absl::Milliseconds(1) || !faults_.is_over()) return false;
    looked_at_ = world_.now;
    return std::all_of(world_.workers.begin(), world_.workers.end(),
                       [](const auto& worker) { return worker->is_idle(); });
  }

  Outcome Finish() {
    for (const auto& worker : world_.workers) {
      for (const auto& session : worker->sessions()) {
        if (world_.checker.broken() == Invariant::kNone) session->CheckEnd();
        world_.figures.Add(session->counters());
      }
    }
    Outcome outcome;
    outcome.broken = world_.checker.broken();
    outcome.figures = world_.figures;
    outcome.digest = digest_;
    if (outcome.broken != Invariant::kNone) {
      outcome.what =
          absl::StrFormat("seed %d, %d partitions, %.0f %% devices, at %.6f s: %s: %s",
                          world_.options.seed, world_.partitions, world_.device_share * 100,
                          absl::ToDoubleSeconds(world_.checker.at() - world_.start),
                          NameOf(outcome.broken), world_.checker.what());
    }
    return outcome;
  }

  void Do(const Event& event) {
    if (event.kind >= EventKind::kArrive && event.kind <= EventKind::kDrained) {
      return DoFlight(event.kind, event.a);
    }
    switch (event.kind) {
      case EventKind::kSubmit:
        return world_.workers[event.a]->Submit();
      case EventKind::kTick:
        return world_.workers[event.a]->session(event.b).Tick();
      case EventKind::kBroken:
        return world_.workers[event.a]->Break(event.b, event.c);
      case EventKind::kSubscribe:
        return world_.workers[event.a]->Subscribe(event.b, event.c);
      case EventKind::kHeard:
        return world_.workers[event.a]->Hear(event.b, event.c);
      case EventKind::kLease:
        return world_.stores[event.b]->HearLease(event.a, event.c);
      case EventKind::kMapDue:
        return world_.workers[event.a]->UseMap();
      case EventKind::kDiscover:
        return world_.workers[event.a]->Discover();
      case EventKind::kFault:
        return faults_.Next();
      case EventKind::kFaultEnd:
        return faults_.End(static_cast<FaultKind>(event.a), event.b, event.c);
      case EventKind::kRollout:
        return rollout_.Step();
      default:
        ENGRAM_CHECK(false, "an event of no kind");
    }
  }

  void DoFlight(EventKind kind, uint32_t at) {
    Flight& flight = world_.flights[at];
    --flight.events;
    FakeStore& store = *world_.stores[flight.store];
    Session& session = world_.workers[flight.worker]->session(flight.session);
    switch (kind) {
      case EventKind::kArrive:
        store.Arrive(at);
        break;
      case EventKind::kAnswer:
        store.Answer(at);
        break;
      case EventKind::kTellCancel:
        store.HearCancel(at);
        break;
      case EventKind::kFirstRows:
        session.FirstRows(at);
        break;
      case EventKind::kLastRows:
        session.LastRows(at);
        break;
      case EventKind::kEndCancel:
        session.EndCancel(at);
        break;
      default:
        session.Drained(at);
        break;
    }
    world_.flights.CloseIfDone(at);
  }

  World world_;
  Faults faults_;
  Rollout rollout_;
  MonotonicTime looked_at_;
  uint64_t digest_ = 0;
};

}  // namespace

Outcome Simulate(const SimOptions& options, const std::function<void(double)>& progress) {
  return Simulation(options).Run(progress);
}

}  // namespace engram::sim
