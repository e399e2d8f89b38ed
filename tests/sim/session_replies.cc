// What comes back to a session: rows, replies, broken connections, and what is checked of them.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/session.h"
#include "tests/sim/store.h"
#include "tests/sim/worker.h"

namespace engram::sim {

// What was on a connection that is no more does not arrive.
bool Session::IsDropped(const Flight& flight) const {
  return flight.connection != world_.workers[worker_]->ConnectionTo(flight.store);
}

// Rows may come, by what the session did so far.
void Session::CheckWrite(uint32_t at) {
  const Flight& flight = world_.flights[at];
  BatchRecord& record = records_[flight.record];
  if (flight.record_use != record.use || !record.is_lent) {
    return Fail(Invariant::kLanding, "rows came to memory that was given back", &flight);
  }
  PartRecord& part = record.records[flight.part];
  if (flight.by_device) {
    // One that was cancelled may still write: nothing else does.
    const auto& devices = part.devices;
    if (std::find(devices.begin(), devices.end(), at) == devices.end()) {
      Fail(Invariant::kLanding, "a device wrote rows of a part after it was drained", &flight);
    }
    return;
  }
  if (flight.is_cancelled) return Fail(Invariant::kLanding, "rows of one that lost", &flight);
  const bool writer_is_open = std::any_of(
      part.may_write.begin(), part.may_write.end(),
      [&](uint32_t other) { return other != at && world_.flights[other].serial == part.writer; });
  if (writer_is_open) Fail(Invariant::kLanding, "rows of two attempts land", &flight);
  part.writer = flight.serial;
}

bool Session::MayWrite(uint32_t at) {
  const Flight& flight = world_.flights[at];
  if (flight.by_device) return true;
  if (world_.Has(Bug::kCopiesUnasked)) return true;
  if (flight.has_ended) return false;
  if (flight.way == LandingWay::kWritten) return !flight.is_cancelled;
  const bool may = router_.MayLand(flight.attempt, world_.now, &actions_);
  // The first attempt whose rows land ends the other one.
  if (may) Act();
  return may;
}

// All of its layers but the last, and half of that, or the rest.
void Session::Land(uint32_t at, uint64_t first_share) {
  Flight& flight = world_.flights[at];
  BatchRecord& record = records_[flight.record];
  CheckWrite(at);
  if (flight.record_use != record.use) return;
  const bool is_first = first_share == 0;
  const uint32_t last = flight.layers >> 1 != 0 ? 1 : 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    if ((flight.layers >> layer & 1) == 0 || (layer != last && !is_first)) continue;
    record.Write(flight, layer, layer == last ? first_share : 0,
                 layer == last && is_first ? 1 : BatchRecord::kShares);
    const bool is_whole = layer != last || !is_first;
    if (!is_whole || flight.has_ended) continue;
    if (!router_.HasLanded(flight.batch, flight.part, layer)) {
      record.records[flight.part].landed_by[layer] = flight.serial;
    }
    if (layer == last) continue;
    router_.LayerLanded(flight.attempt, layer, world_.now, &actions_);
  }
}

void Session::FirstRows(uint32_t at) {
  Flight& flight = world_.flights[at];
  if (IsDropped(flight) ||
      (flight.has_ended && !flight.by_device && !world_.Has(Bug::kCopiesUnasked))) {
    return;
  }
  if (MayWrite(at)) {
    Land(at, 0);
    flight.has_first = true;
  }
  Act();
}

void Session::LastRows(uint32_t at) {
  Flight& flight = world_.flights[at];
  world_.stores[flight.store]->TakeSlabBack(flight);
  const bool is_over = flight.has_ended && !flight.by_device && !world_.Has(Bug::kCopiesUnasked);
  if (IsDropped(flight) || is_over || flight.is_beside) return;
  if (flight.code != absl::StatusCode::kOk) {
    if (!IsSentAgain(at)) End(at, absl::Status(flight.code, "by the store"));
    return Act();
  }
  if (MayWrite(at)) {
    if (!flight.has_first) Land(at, 0);
    Land(at, 1);
  }
  End(at, absl::OkStatus());
  Act();
}

// The planted bug: what a store refuses is asked of it again, and the router does not know.
bool Session::IsSentAgain(uint32_t at) {
  Flight& flight = world_.flights[at];
  if (!world_.Has(Bug::kSendsAgain) || flight.is_cancelled || ++flight.tries > 8) return false;
  flight.code = absl::StatusCode::kOk;
  ++world_.figures.resends;
  if (!sent_.CountResend(world_.now, map_->map->pieces().size())) {
    Fail(Invariant::kAttempts, "one re-send too many, beside the router", &flight);
  }
  world_.AddFlight(world_.workers[worker_]->ArrivalOver(flight.store), EventKind::kArrive, at);
  return true;
}

// It may write no more.
void Session::Forget(uint32_t at) {
  Flight& flight = world_.flights[at];
  flight.has_ended = true;
  flights_.erase(flight.attempt);
  BatchRecord& record = records_[flight.record];
  if (record.use != flight.record_use) return;
  PartRecord& part = record.records[flight.part];
  Remove(part.may_write, at);
  Remove(part.devices, at);
}

void Session::End(uint32_t at, const absl::Status& status) {
  const Flight& flight = world_.flights[at];
  if (flight.has_ended) return;
  if (world_.Has(Bug::kForgetsReplies) && flight.is_cancelled) return;
  Forget(at);
  router_.Reply(flight.attempt, status, flight.retry_after, world_.now, &actions_);
}

void Session::EndCancel(uint32_t at) {
  End(at, absl::CancelledError("by the worker"));
  Act();
}

// A queue pair is drained once; what else was on it is over with it.
void Session::Drained(uint32_t at) {
  const Flight& flight = world_.flights[at];
  if (flight.has_ended) return;
  Worker& worker = *world_.workers[worker_];
  const bool closes = !IsDropped(flight) && flight.by_device && !world_.Has(Bug::kDrainsTooSoon);
  if (closes) worker.CloseConnection(flight.store);
  const uint32_t store = flight.store;
  const AttemptId attempt = flight.attempt;
  Forget(at);
  router_.Drained(attempt, world_.now, &actions_);
  Act();
  if (closes) worker.TellBroken(store);
}

void Session::Broken(uint32_t store, bool is_idle_told) {
  std::vector<std::pair<StoreId, uint32_t>> lives;
  for (StoreId id = 1; id < known_.size(); ++id) {
    if (known_[id].place == store) lives.emplace_back(id, known_[id].life);
  }
  std::vector<uint32_t> over;
  for (const auto& [attempt, at] : flights_) {
    if (world_.flights[at].store == store && IsDropped(world_.flights[at])) over.push_back(at);
  }
  // A hash map's order is not the same in two runs.
  std::sort(over.begin(), over.end(), [&](uint32_t a, uint32_t b) {
    return world_.flights[a].serial < world_.flights[b].serial;
  });
  for (const auto& [id, life] : lives) {
    bool is_any = is_idle_told && life == lives.back().second;
    for (const uint32_t at : over) {
      Flight& flight = world_.flights[at];
      if (flight.life != life) continue;
      is_any = true;
      PartRecord& part = records_[flight.record].records[flight.part];
      if (!flight.is_cancelled && !part.had_free) part.had_free = part.has_free = true;
      if (flight.way == LandingWay::kCopied) Forget(at);
    }
    if (!is_any) continue;
    router_.ConnectionBroken(id, world_.now, &actions_);
    Act();
  }
}

void Session::Heard(uint32_t store) {
  for (StoreId id = 1; id < known_.size(); ++id) {
    if (known_[id].place == store) router_.Heard(id, world_.now, &actions_);
  }
  Act();
}

void Session::CheckEnd() {
  for (const BatchRecord& record : records_) {
    if (record.is_open) Fail(Invariant::kDeadline, "a batch never ended");
    if (record.is_lent) Fail(Invariant::kGivenBack, "memory was never given back");
  }
  if (!flights_.empty() || router_.counters().open_attempts > 0 ||
      router_.counters().open_batches > 0) {
    Fail(Invariant::kGivenBack, "attempts or batches are still open");
  }
}

}  // namespace engram::sim
