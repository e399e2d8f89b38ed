#include "tests/sim/session.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "memstore/base/check.h"
#include "tests/sim/store.h"
#include "tests/sim/worker.h"

namespace engram::sim {
namespace {

constexpr absl::Duration kLeastDeadline = absl::Milliseconds(500);
constexpr absl::Duration kMostDeadline = absl::Milliseconds(1500);
// Of the client's own calls: cancelling, and what flushing a queue pair takes.
constexpr absl::Duration kCancelTime = absl::Microseconds(20);
constexpr absl::Duration kLeastDrain = absl::Microseconds(100);
constexpr absl::Duration kMostDrain = absl::Milliseconds(2);
// As long as the SDK promises to take (client/transport/ticketed_transport.h).
constexpr absl::Duration kReapTime = absl::Seconds(1);
// How late the planted bug ticks.
constexpr absl::Duration kLate = absl::Milliseconds(20);

}  // namespace

Session::Session(World& world, uint32_t worker, uint32_t place, uint32_t set)
    : world_(world),
      worker_(worker),
      place_(place),
      set_(set),
      router_({.client_id = absl::StrCat("w", worker),
               .zone = "",
               .way = world.device_share > 0 ? LandingWay::kWritten : LandingWay::kCopied,
               .hedges = world.options.hedges},
              &world.router_random) {}

void Session::Fail(Invariant invariant, absl::string_view what, const Flight* flight) {
  std::string text = absl::StrCat("worker ", worker_, ", set ", set_, ": ", what);
  if (flight != nullptr) {
    absl::StrAppend(&text, " (flight ", flight->serial, ", attempt ", flight->attempt, ", part ",
                    flight->part, ", store ", flight->store, ")");
  }
  world_.checker.Fail(invariant, world_.now, text);
}

void Session::SetMap(std::shared_ptr<MapOfSet> map) {
  if (world_.Has(Bug::kKeepsOldMap) && map_ != nullptr && map_->map->is_complete()) return;
  asks_for_map_ = false;
  map_ = std::move(map);
  router_.SetMap(map_->map, world_.now, &actions_);
  Act();
}

// "i3.7" is the seventh life of store 3.
const Session::KnownStore& Session::Known(StoreId id) {
  if (known_.size() <= id) known_.resize(id + 1);
  KnownStore& known = known_[id];
  if (known.place == UINT32_MAX) {
    const absl::string_view instance = router_.InstanceOf(id);
    const std::pair<absl::string_view, absl::string_view> words =
        absl::StrSplit(instance.substr(1), '.');
    ENGRAM_CHECK(
        absl::SimpleAtoi(words.first, &known.place) && absl::SimpleAtoi(words.second, &known.life),
        "a store that is not of this simulation");
  }
  return known;
}

void Session::Submit() {
  if (free_records_.empty()) {
    free_records_.push_back(static_cast<uint32_t>(records_.size()));
    records_.emplace_back().place = free_records_.back();
  }
  const uint32_t at = free_records_.back();
  BatchRecord& record = records_[at];
  record.Draw(*map_, world_.scheme, world_.draws);
  free_records_.pop_back();
  record.submitted_at = world_.now;
  record.deadline = world_.now + world_.draws.Between(kLeastDeadline, kMostDeadline);
  record.is_open = record.is_lent = true;
  ++open_;
  const absl::StatusOr<BatchId> id = router_.Submit(at, map_->map.get(), record.parts, kLayers,
                                                    record.deadline, world_.now, &actions_);
  if (!id.ok()) {
    ++world_.figures.held_back;
    record.is_open = false;
    --open_;
    return GiveBack(record);
  }
  ++world_.figures.batches;
  record.id = *id;
  Act();
}

void Session::CancelOne() {
  if (records_.empty()) return;
  const BatchRecord& record = records_[world_.draws.Below(records_.size())];
  if (!record.is_open) return;
  router_.Cancel(record.id, world_.now, &actions_);
  Act();
  if (record.is_open) Fail(Invariant::kDeadline, "a cancelled batch goes on");
}

void Session::Tick() {
  if (tick_at_ != world_.now) return;  // another one is due
  tick_at_ = MonotonicTime::Infinite();
  router_.Tick(world_.now, &actions_);
  Act();
}

void Session::Act() {
  while (!actions_.empty()) {
    doing_.clear();
    doing_.swap(actions_);
    for (const RouterAction& action : doing_) Do(action);
  }
  const MonotonicTime next = router_.NextTick(world_.now);
  if (next >= tick_at_) return;
  tick_at_ = world_.Has(Bug::kTicksLate) ? next + kLate : next;
  world_.events.Add(tick_at_, EventKind::kTick, worker_, place_);
}

void Session::Do(const RouterAction& action) {
  switch (action.kind) {
    case ActionKind::kSend:
      return Launch(action);
    case ActionKind::kCancel:
      return Cancel(flights_.at(action.attempt));
    case ActionKind::kDrain:
      return Drain(flights_.at(action.attempt));
    case ActionKind::kLanded:
    case ActionKind::kFailed:
      return EndBatch(action);
    case ActionKind::kReleased:
      if (world_.now > records_[action.tag].ended_at + kReapTime) {
        Fail(Invariant::kGivenBack,
             absl::StrCat("memory was given back ",
                          absl::FormatDuration(world_.now - records_[action.tag].ended_at),
                          " after its batch's end"));
      }
      return GiveBack(records_[action.tag]);
    case ActionKind::kTryAgain:
      router_.SetWay(action.store, world_.stores[Known(action.store).place]->by_device()
                                       ? LandingWay::kWritten
                                       : LandingWay::kCopied);
      return;
    case ActionKind::kSplitAgain:
      return SplitAgain(action);
    case ActionKind::kForget:
      return;
    case ActionKind::kAskForMap:
      asks_for_map_ = true;
      return world_.workers[worker_]->AskForMap();
    case ActionKind::kLayer:
    case ActionKind::kEject:
    case ActionKind::kFence:
      return;
  }
}

void Session::SplitAgain(const RouterAction& action) {
  BatchRecord& record = records_[action.tag];
  const uint32_t first = static_cast<uint32_t>(record.parts.size());
  record.SplitAgain(action.part, *map_, [&](uint32_t layer) {
    return router_.IsMissing(action.batch, action.part, layer);
  });
  const absl::Status status =
      router_.TakeSplit(action.batch, action.part, map_->map.get(),
                        absl::MakeConstSpan(record.parts).subspan(first), world_.now, &actions_);
  if (!status.ok()) record.ForgetSplit(action.part, first);
}

void Session::Launch(const RouterAction& action) {
  BatchRecord& record = records_[action.tag];
  CountAttempt(record, action.part);
  const uint32_t at = SendFlight(action);
  flights_[action.attempt] = at;
  if (!world_.Has(Bug::kHedgesFreely) || world_.flights[at].by_device) return;
  if (world_.draws.Chance(0.9)) return;
  CountAttempt(record, action.part);
  Flight& beside = world_.flights[SendFlight(action)];
  beside.is_beside = beside.has_ended = true;
}

// By what is under way: beside another one it is a hedge, after one on a broken connection it is
// free once, and else it is out of the budget.
void Session::CountAttempt(BatchRecord& record, uint32_t number) {
  PartRecord& part = record.records[number];
  if (part.attempts++ == 0) {
    ++world_.figures.first_attempts;
    return sent_.CountFirst(world_.now);
  }
  for (const uint32_t device : part.devices) {
    Fail(Invariant::kLanding, "a part is asked for again while a device may write its rows",
         &world_.flights[device]);
  }
  if (!part.may_write.empty()) {
    ++world_.figures.hedges;
    if (!sent_.CountHedge()) Fail(Invariant::kHedges, "one hedge too many");
  } else if (part.has_free) {
    part.has_free = false;
    ++world_.figures.free_resends;
  } else {
    ++world_.figures.resends;
    if (!sent_.CountResend(world_.now, map_->map->pieces().size())) {
      Fail(Invariant::kAttempts, "one re-send too many");
    }
  }
}

uint32_t Session::SendFlight(const RouterAction& action) {
  const KnownStore known = Known(action.store);
  FakeStore& store = *world_.stores[known.place];
  BatchRecord& record = records_[action.tag];
  const uint32_t at = world_.flights.Open();
  Flight& flight = world_.flights[at];
  flight.worker = worker_;
  flight.session = place_;
  flight.store = known.place;
  flight.life = known.life;
  flight.connection = world_.workers[worker_]->ConnectionTo(known.place);
  flight.attempt = action.attempt;
  flight.batch = action.batch;
  flight.record = static_cast<uint32_t>(action.tag);
  flight.record_use = record.use;
  flight.part = action.part;
  flight.way = action.way;
  flight.by_device = store.by_device();
  flight.set = flight.answered_set = set_;
  flight.deadline = record.deadline;
  flight.sent_at = world_.now;
  flight.bytes = record.parts[action.part].bytes;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    if (record.LayerOf(action.part, layer) != nullptr &&
        router_.IsMissing(action.batch, action.part, layer)) {
      flight.layers |= 1u << layer;
    }
  }
  PartRecord& part = record.records[action.part];
  part.may_write.push_back(at);
  if (flight.by_device) part.devices.push_back(at);
  if (flight.by_device && flight.way == LandingWay::kCopied) {
    Fail(Invariant::kLanding, "a device is asked as if it were a client's copy", &flight);
  }
  // What is known of the store is that it copies: from here on the router knows as well.
  if (!flight.by_device && flight.way == LandingWay::kWritten) {
    router_.SetWay(action.store, LandingWay::kCopied);
  }
  world_.AddFlight(world_.workers[worker_]->ArrivalOver(known.place), EventKind::kArrive, at);
  return at;
}

void Session::Cancel(uint32_t at) {
  Flight& flight = world_.flights[at];
  flight.is_cancelled = true;
  Remove(records_[flight.record].records[flight.part].may_write, at);
  if (world_.Has(Bug::kForgetsReplies) && world_.draws.Chance(0.5)) return;
  if (flight.by_device) {
    world_.AddFlight(world_.workers[worker_]->ArrivalOver(flight.store), EventKind::kTellCancel,
                     at);
  } else {
    world_.AddFlight(world_.now + kCancelTime, EventKind::kEndCancel, at);
  }
}

void Session::Drain(uint32_t at) {
  Flight& flight = world_.flights[at];
  Remove(records_[flight.record].records[flight.part].may_write, at);
  flight.is_cancelled = true;
  const bool at_once = world_.Has(Bug::kDrainsTooSoon) || !flight.by_device;
  world_.AddFlight(
      at_once ? world_.now : world_.now + world_.draws.Between(kLeastDrain, kMostDrain),
      EventKind::kDrained, at);
}

void Session::EndBatch(const RouterAction& action) {
  BatchRecord& record = records_[action.tag];
  if (!record.is_open) Fail(Invariant::kDeadline, "a batch ended twice");
  record.is_open = false;
  record.ended_at = world_.now;
  --open_;
  if (world_.now > record.deadline) {
    Fail(Invariant::kDeadline,
         absl::StrCat("a batch ended ", absl::FormatDuration(world_.now - record.deadline),
                      " after its deadline"));
  }
  if (action.kind == ActionKind::kFailed) {
    ++world_.figures.failed[StatusCodeIndex(action.status.code())];
    world_.Log(absl::StrCat("worker ", worker_, ": ", action.status.ToString()));
    const bool is_own = action.status.code() == absl::StatusCode::kCancelled;
    if (world_.options.one_at_a_time && !is_own) {
      Fail(Invariant::kSurvives, action.status.ToString());
    }
    return;
  }
  ++world_.figures.landed;
  world_.figures.latency.Add(absl::ToInt64Microseconds(world_.now - record.submitted_at));
  Invariant broken = Invariant::kNone;
  const std::string what = record.Check(set_, &broken);
  if (broken != Invariant::kNone) Fail(broken, what);
  for (const PartRecord& part : record.records) {
    if (!part.devices.empty()) {
      Fail(Invariant::kLanding, "a batch landed while a device may write its rows",
           &world_.flights[part.devices.front()]);
    }
  }
  GiveBack(record);
}

void Session::GiveBack(BatchRecord& record) {
  record.is_lent = false;
  ++record.use;
  free_records_.push_back(record.place);
}

}  // namespace engram::sim
