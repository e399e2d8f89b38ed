#include "tests/sim/store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "memstore/base/check.h"
#include "memstore/partition/partition.h"
#include "tests/sim/worker.h"

namespace engram::sim {
namespace {

// A lookup of one token, and what memory delivers, with a loaded machine in mind.
constexpr absl::Duration kServiceTime = absl::Microseconds(40);
constexpr double kBytesPerNs = 4;
constexpr uint64_t kIdBytes = 8;

}  // namespace

FakeStore::FakeStore(World& world, uint32_t place)
    : world_(world), place_(place), by_device_(world.draws.Chance(world.device_share)) {
  recorded_.push_back({.set = 1, .state = HoldingState::kServing});
  Start();
}

bool FakeStore::is_well() const {
  return is_up_ && !is_paused() && !is_draining_ && !is_damaged_ && !lies_ && slowness_ == 1;
}

FakeStore::Held* FakeStore::Find(uint32_t set) {
  const auto found =
      std::find_if(sets_.begin(), sets_.end(), [&](const Held& held) { return held.set == set; });
  return found == sets_.end() ? nullptr : &*found;
}

MonotonicTime FakeStore::Back(const Flight& flight) {
  return world_.workers[flight.worker]->ArrivalOver(place_);
}

void FakeStore::Refuse(uint32_t at, absl::StatusCode code) {
  Flight& flight = world_.flights[at];
  flight.code = code;
  if (code == absl::StatusCode::kResourceExhausted) {
    ++world_.figures.turned_away;
    flight.retry_after = absl::FromChrono(kRetryDelay);
  }
  world_.AddFlight(Back(flight), EventKind::kLastRows, at);
}

// By engramd's rule (server/lookup/places.h) a connection may hold as much as is left free.
bool FakeStore::IsTurnedAway(const Flight& flight) {
  const OfWorker& held = of_worker_[flight.worker];
  const uint64_t bytes = flight.bytes / 8 * kIdBytes;
  const uint64_t free_bytes = kSharedIdBytes - std::min(kSharedIdBytes, id_bytes_);
  return in_store_ >= kMaxUnaryCalls || held.calls >= kMaxUnaryCalls - in_store_ ||
         held.calls >= static_cast<uint32_t>(kMaxCallsPerConnection) ||
         held.id_bytes + bytes > std::max<uint64_t>(free_bytes, kOwnIdBytes);
}

absl::StatusCode FakeStore::CodeFor(const Flight& flight) {
  if (flight.life != life_ || refuses_new_) return absl::StatusCode::kUnavailable;
  if (is_damaged_) return absl::StatusCode::kDataLoss;
  const Held* const held = Find(flight.set);
  if (lies_ || held == nullptr || held->state == HoldingState::kStaged) {
    return absl::StatusCode::kFailedPrecondition;
  }
  return IsTurnedAway(flight) ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kOk;
}

void FakeStore::Arrive(uint32_t at) {
  Flight& flight = world_.flights[at];
  if (!is_up_) {
    if (!is_quiet_) Refuse(at, absl::StatusCode::kUnavailable);
    return;
  }
  if (is_paused()) return world_.AddFlight(paused_until_, EventKind::kArrive, at);
  const absl::StatusCode code = CodeFor(flight);
  if (code != absl::StatusCode::kOk) return Refuse(at, code);
  flight.in_store = true;
  flight.queued_at = world_.now;
  ++in_store_;
  OfWorker& held = of_worker_[flight.worker];
  ++held.calls;
  held.id_bytes += flight.bytes / 8 * kIdBytes;
  id_bytes_ += flight.bytes / 8 * kIdBytes;
  queue_.push_back(at);
  StartNext();
}

void FakeStore::Leave(Flight& flight) {
  flight.in_store = false;
  if (flight.life != life_) return;
  --in_store_;
  OfWorker& held = of_worker_[flight.worker];
  --held.calls;
  held.id_bytes -= flight.bytes / 8 * kIdBytes;
  id_bytes_ -= flight.bytes / 8 * kIdBytes;
}

void FakeStore::StartNext() {
  while (busy_ < kThreads && !queue_.empty() && is_up_ && !is_paused()) {
    const uint32_t at = queue_.front();
    Flight& flight = world_.flights[at];
    absl::StatusCode code = absl::StatusCode::kOk;
    if (world_.now >= flight.deadline) code = absl::StatusCode::kDeadlineExceeded;
    if (slabs_ == 0) {
      if (world_.now < flight.queued_at + absl::FromChrono(kMaxSlabWait)) return;
      code = absl::StatusCode::kResourceExhausted;
    }
    queue_.pop_front();
    if (code != absl::StatusCode::kOk) {
      Leave(flight);
      Refuse(at, code);
      continue;
    }
    ++busy_;
    --slabs_;
    flight.has_slab = true;
    const absl::Duration takes =
        kServiceTime + world_.draws.Around(kServiceTime / 2) +
        absl::Nanoseconds(static_cast<int64_t>(static_cast<double>(flight.bytes) / kBytesPerNs));
    world_.AddFlight(world_.now + takes * slowness_, EventKind::kAnswer, at);
  }
}

void FakeStore::Answer(uint32_t at) {
  Flight& flight = world_.flights[at];
  if (flight.life != life_ || !is_up_) {  // it went with its life
    flight.in_store = flight.has_slab = false;
    return;
  }
  if (is_paused()) return world_.AddFlight(paused_until_, EventKind::kAnswer, at);
  --busy_;
  Leave(flight);
  flight.answered_set = flight.set;
  if (is_damaged_) flight.code = absl::StatusCode::kDataLoss;
  if (world_.Has(Bug::kAnswersNewSet)) {
    for (const Held& held : sets_) {
      if (held.state == HoldingState::kServing) flight.answered_set = held.set;
    }
  }
  MonotonicTime first = Back(flight), last = first;
  // What is small comes in one message.
  if (flight.code == absl::StatusCode::kOk && world_.draws.Chance(0.5)) {
    last = std::max(first, Back(flight)) + absl::Microseconds(1);
    world_.AddFlight(first, EventKind::kFirstRows, at);
  }
  world_.AddFlight(last, EventKind::kLastRows, at);
  StartNext();
}

void FakeStore::TakeSlabBack(Flight& flight) {
  if (!flight.has_slab) return;
  flight.has_slab = false;
  if (flight.life != life_ || !is_up_) return;
  ++slabs_;
  StartNext();
}

// What is in its queue is answered at once; what is being gathered is answered by its rows.
void FakeStore::HearCancel(uint32_t at) {
  Flight& flight = world_.flights[at];
  if (!is_up_ || is_paused() || flight.life != life_ || !flight.in_store) return;
  const auto found = std::find(queue_.begin(), queue_.end(), at);
  if (found == queue_.end()) return;
  queue_.erase(found);
  Leave(flight);
  Refuse(at, absl::StatusCode::kCancelled);
}

bool FakeStore::Subscribe(uint32_t worker) {
  if (subscribers_.size() >= kMaxHoldingsCalls) {
    ++world_.figures.turned_away;
    return false;
  }
  subscribers_.try_emplace(worker, 0);
  return true;
}

void FakeStore::Unsubscribe(uint32_t worker) { subscribers_.erase(worker); }

void FakeStore::HearLease(uint32_t worker, uint32_t sets) {
  const auto found = subscribers_.find(worker);
  if (found != subscribers_.end()) found->second = sets;
}

bool FakeStore::HearsHolderOf(uint32_t set) const {
  return std::any_of(subscribers_.begin(), subscribers_.end(),
                     [&](const auto& lease) { return (lease.second >> set & 1) != 0; });
}

void FakeStore::Say() {
  auto word = std::make_shared<Word>();
  word->number = ++world_.words;
  StoreState& state = word->state;
  state.instance_id = absl::StrCat("i", place_, ".", life_);
  state.address = absl::StrCat("s", place_, ":7300");
  state.transports = {by_device_ ? "rdma" : "grpc"};
  const auto columns =
      ColumnsOf(PartitionIndex{place_ % world_.partitions, world_.partitions}, world_.scheme);
  const std::vector<HeldLayer> rows = RowsOf(*columns, world_.scheme);
  for (const Held& held : sets_) {
    HeldSet& set = state.sets.emplace_back();
    set.name = std::string(kName);
    set.set_id = IdOfSet(held.set);
    set.generation = held.set;
    set.state =
        is_draining_ && held.state != HoldingState::kStaged ? HoldingState::kDraining : held.state;
    for (size_t i = 0; i < rows.size(); ++i) {
      set.layers.push_back({.layer = world_.scheme.layers[i].layer, .rows = rows[i]});
    }
  }
  word_ = std::move(word);
  for (const auto& [worker, lease] : subscribers_) {
    world_.events.Add(world_.workers[worker]->ArrivalOver(place_), EventKind::kHeard, worker,
                      place_, life_);
  }
}

bool FakeStore::Stage(uint32_t set) {
  if (!is_up_ || is_paused() || is_draining_) return false;
  if (Find(set) != nullptr) return true;
  sets_.push_back({.set = set, .state = HoldingState::kStaged});
  Say();
  return true;
}

bool FakeStore::Publish(uint32_t set) {
  if (!is_up_ || is_paused() || is_draining_) return false;
  Held* const published = Find(set);
  if (published == nullptr) return Stage(set) && Publish(set);
  if (published->state != HoldingState::kStaged) return true;
  for (Held& held : sets_) {
    if (held.state == HoldingState::kServing) held.state = HoldingState::kSuperseded;
  }
  published->state = HoldingState::kServing;
  recorded_ = sets_;
  world_.Log(absl::StrCat("store ", place_, " serves set ", set));
  Say();
  return true;
}

bool FakeStore::Retire(uint32_t set) {
  if (!is_up_ || is_paused() || is_draining_) return false;
  if (std::erase_if(sets_, [&](const Held& held) { return held.set == set; }) > 0) Say();
  recorded_ = sets_;
  return true;
}

void FakeStore::Crash(bool quiet) {
  for (const uint32_t at : queue_) {
    Flight& flight = world_.flights[at];
    flight.in_store = false;
    world_.flights.CloseIfDone(at);
  }
  queue_.clear();
  is_up_ = false;
  is_quiet_ = quiet;
  if (quiet) return;  // who is connected hears of it when the next life answers
  TellBroken();
}

void FakeStore::TellBroken() {
  for (const auto& [worker, lease] : subscribers_) world_.workers[worker]->BreakLater(place_);
  subscribers_.clear();
}

void FakeStore::Start() {
  ++life_;
  is_up_ = true;
  is_quiet_ = is_damaged_ = is_draining_ = refuses_new_ = lies_ = false;
  slowness_ = 1;
  paused_until_ = MonotonicTime();
  sets_ = recorded_;
  of_worker_.clear();
  busy_ = in_store_ = 0;
  slabs_ = kSlabs;
  id_bytes_ = 0;
  // Whoever was connected to the life before is told so by the first byte that it sends.
  TellBroken();
  world_.registered[place_] = 1;
  Say();
}

void FakeStore::AnnounceEnd() {
  is_draining_ = true;
  world_.registered[place_] = 0;
  Say();
}

}  // namespace engram::sim
