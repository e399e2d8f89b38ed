#include "tests/sim/worker.h"

#include <algorithm>

#include "tests/sim/store.h"

namespace engram::sim {
namespace {

constexpr absl::Duration kDiscoverEvery = absl::Seconds(2);
// As the client's stream of holdings (client/cluster/holdings_stream.h).
constexpr absl::Duration kFirstDelay = absl::Milliseconds(100);
constexpr absl::Duration kMaxDelay = absl::Seconds(5);
// A store that has no place for one more stream has none in a moment either.
constexpr absl::Duration kTurnedAwayDelay = absl::Seconds(30);
// A store has places for about a thousand streams of holdings, so ten thousand workers cannot hear
// a thousand stores: each hears this many, one after the other, which have all partitions.
constexpr uint32_t kMostHeard = 96;
// What is heard within it makes one map. A large cluster speaks all the time.
constexpr absl::Duration kMapDelay = absl::Milliseconds(5);
constexpr absl::Duration kMapDelayOfMany = absl::Seconds(2);
constexpr uint32_t kManyStores = 100;
// A map that was asked for comes after as long as asking all stores takes.
constexpr absl::Duration kAskTime = absl::Milliseconds(2);
constexpr uint32_t kSetBits = 32;
// After so many batches, on average, the worker takes one back, if it draws one that is open.
constexpr double kCancels = 0.05;

}  // namespace

Worker::Worker(World& world, uint32_t place, double share)
    : world_(world), place_(place), share_(share), peers_(world.options.stores) {}

void Worker::Begin() {
  Discover();
  world_.events.Add(world_.start + world_.draws.Between(absl::Seconds(1), absl::Seconds(2)),
                    EventKind::kSubmit, place_);
}

void Worker::Submit() {
  if (world_.now >= world_.end) return;
  Session* const session = Current();
  if (session == nullptr) {
    ++world_.figures.held_back;
  } else {
    session->Submit();
    if (world_.draws.Chance(kCancels)) session->CancelOne();
  }
  const double rate = world_.options.rate * share_ * burst_;
  world_.events.Add(world_.now + world_.draws.Around(absl::Seconds(1) / rate), EventKind::kSubmit,
                    place_);
}

bool Worker::is_idle() const {
  return std::all_of(sessions_.begin(), sessions_.end(), [](const auto& session) {
    return session->open() == 0 && !session->has_open_flights();
  });
}

MonotonicTime Worker::ArrivalOver(uint32_t store) {
  return std::max(world_.now, peers_[store].dark_until) + world_.Latency();
}

bool Worker::ListensTo(uint32_t store) const {
  const uint32_t stores = world_.options.stores;
  if (stores <= kMostHeard) return true;
  const auto first = static_cast<uint32_t>(uint64_t{place_} * kMostHeard % stores);
  return (store + stores - first) % stores < kMostHeard;
}

// Discovery gives addresses alone; while it is down the last ones go on.
void Worker::Discover() {
  world_.events.Add(world_.now + kDiscoverEvery * (0.9 + 0.2 * world_.draws.Share()),
                    EventKind::kDiscover, place_);
  if (!world_.discovery_up) return;
  for (uint32_t store = 0; store < peers_.size(); ++store) {
    Peer& peer = peers_[store];
    peer.is_discovered = world_.registered[store] != 0 && ListensTo(store);
    if (peer.is_discovered && !peer.is_subscribed && !peer.is_subscribing) Subscribe(store, 0);
  }
}

void Worker::Subscribe(uint32_t store, uint32_t tries) {
  Peer& peer = peers_[store];
  peer.is_subscribing = false;
  if (peer.is_subscribed || !peer.is_discovered) return;
  FakeStore& asked = *world_.stores[store];
  const MonotonicTime arrival = ArrivalOver(store);
  const bool answers = asked.is_up() && !asked.is_paused() && arrival < world_.now + kFirstDelay;
  if (answers && asked.Subscribe(place_)) {
    peer.is_subscribed = true;
    world_.events.Add(arrival + world_.Latency(), EventKind::kHeard, place_, store, asked.life());
    world_.events.Add(arrival + world_.Latency(), EventKind::kLease, place_, store, lease_);
    return;
  }
  peer.is_subscribing = true;
  const absl::Duration delay =
      answers ? kTurnedAwayDelay : std::min(kFirstDelay * (1 << std::min(tries, 6u)), kMaxDelay);
  world_.events.Add(world_.now + delay * (0.8 + 0.4 * world_.draws.Share()), EventKind::kSubscribe,
                    place_, store, tries + 1);
}

void Worker::Hear(uint32_t store, uint32_t life) {
  Peer& peer = peers_[store];
  const FakeStore& said = *world_.stores[store];
  if (!peer.is_subscribed || !said.is_up() || said.life() != life) return;
  peer.heard = said.word();
  for (const auto& session : sessions_) session->Heard(store);
  ScheduleMap(world_.options.stores >= kManyStores ? kMapDelayOfMany : kMapDelay);
}

// What is due sooner comes sooner, whatever else is due.
void Worker::ScheduleMap(absl::Duration in) {
  if (map_due_at_ <= world_.now + in) return;
  map_due_at_ = world_.now + in;
  world_.events.Add(map_due_at_, EventKind::kMapDue, place_);
}

void Worker::AskForMap() { ScheduleMap(kAskTime); }

void Worker::UseMap() {
  if (world_.now < map_due_at_) return;  // it was due sooner, and came
  map_due_at_ = MonotonicTime::Infinite();
  Words words;
  for (const Peer& peer : peers_) {
    if (peer.heard != nullptr) words.push_back(peer.heard);
  }
  const std::shared_ptr<View> view = world_.views.Of(words);
  if (view->named().ok()) {
    const uint32_t set = SetOfId(view->named()->set_id);
    const bool is_new = std::none_of(sessions_.begin(), sessions_.end(),
                                     [&](const auto& s) { return s->set() >= set; });
    if (is_new && (sessions_.empty() || view->Of(set)->map->is_complete())) {
      sessions_.push_back(
          std::make_unique<Session>(world_, place_, static_cast<uint32_t>(sessions_.size()), set));
    }
  }
  for (size_t i = 0; i < sessions_.size(); ++i) {
    const bool is_used = i + 1 == sessions_.size() || sessions_[i]->open() > 0;
    if (is_used) sessions_[i]->SetMap(view->Of(sessions_[i]->set()));
  }
  SayLease();
}

void Worker::SayLease() {
  uint32_t lease = 0;
  for (const auto& session : sessions_) {
    if (session == sessions_.back() || session->open() > 0)
      lease |= 1u << session->set() % kSetBits;
  }
  if (lease == lease_) return;
  lease_ = lease;
  for (uint32_t store = 0; store < peers_.size(); ++store) {
    if (!peers_[store].is_subscribed) continue;
    world_.events.Add(ArrivalOver(store), EventKind::kLease, place_, store, lease_);
  }
  // What is open of older sets ends; then the lease says so.
  if ((lease & (lease - 1)) != 0) ScheduleMap(absl::Seconds(1));
}

void Worker::TellBroken(uint32_t store) {
  for (const auto& session : sessions_) session->Broken(store, /*is_idle_told=*/false);
}

void Worker::BreakLater(uint32_t store) {
  world_.events.Add(ArrivalOver(store), EventKind::kBroken, place_, store,
                    peers_[store].connection);
}

void Worker::Break(uint32_t store, uint32_t connection) {
  Peer& peer = peers_[store];
  if (peer.connection != connection) return;
  ++peer.connection;
  peer.is_subscribed = false;
  peer.heard = nullptr;
  world_.stores[store]->Unsubscribe(place_);
  for (const auto& session : sessions_) session->Broken(store, /*is_idle_told=*/true);
  if (!peer.is_subscribing) {
    peer.is_subscribing = true;
    world_.events.Add(world_.now + kFirstDelay, EventKind::kSubscribe, place_, store, 1);
  }
  ScheduleMap(kMapDelay);
}

void Worker::Darken(uint32_t store, MonotonicTime until) {
  peers_[store].dark_until = std::max(peers_[store].dark_until, until);
}

void Worker::LoseLease(uint32_t store) {
  Peer& peer = peers_[store];
  if (!peer.is_subscribed) return;
  world_.stores[store]->Unsubscribe(place_);
  peer.is_subscribed = false;
  peer.is_subscribing = true;
  world_.events.Add(world_.now + world_.draws.Between(kFirstDelay, kMaxDelay),
                    EventKind::kSubscribe, place_, store, 1);
}

}  // namespace engram::sim
