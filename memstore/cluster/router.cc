// The router's events, its time, and what it shows.

#include "memstore/cluster/router.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {

Router::Router(RouterOptions options, std::mt19937_64* random)
    : options_(std::move(options)),
      client_hash_(HashOfInstance(options_.client_id)),
      random_(*random) {}

Router::~Router() = default;

absl::StatusOr<BatchId> Router::Submit(uint64_t tag, const ClusterMap* map,
                                       absl::Span<const SplitPart> parts, uint32_t layers,
                                       MonotonicTime deadline, MonotonicTime now, Actions* actions,
                                       bool is_registered) {
  if (map == nullptr || map != map_.get()) {
    return absl::AbortedError("the batch was split by another cluster map: split it again");
  }
  if (live_batches_.size() >= kMaxOpenBatches) {
    return absl::ResourceExhaustedError(
        absl::StrCat(kMaxOpenBatches, " batches are open: reap those that are done"));
  }
  if (deadline <= now) {
    return absl::DeadlineExceededError(
        "the deadline had passed before the batch was submitted: give it a later one");
  }
  Batch& batch = OpenBatch();
  batch.tag = tag;
  batch.deadline = deadline;
  batch.layers = layers;
  FillParts(batch, parts, is_registered, now);
  ++counters_.batches;
  const BatchId id = batch.id;
  for (uint32_t part = 0; part < batch.part_count && !batch.has_ended; ++part) {
    Ask(batch, part, now, actions);
  }
  EndIfLanded(batch, actions);
  return id;
}

absl::Status Router::TakeSplit(BatchId id, uint32_t number, const ClusterMap* map,
                               absl::Span<const SplitPart> parts, MonotonicTime now,
                               Actions* actions) {
  Batch* const found = FindBatch(id);
  if (found == nullptr || found->has_ended || number >= found->part_count ||
      !found->parts[number].wants_split) {
    return absl::FailedPreconditionError("the part is not to be split any more");
  }
  if (map == nullptr || map != map_.get()) {
    return absl::AbortedError("the part was split by another cluster map: split it again");
  }
  Batch& batch = *found;
  Part& part = batch.parts[number];
  part.wants_split = false;
  StopWaiting(batch, part);
  // What landed of it stays its own, the rest is the new ones'.
  for (uint32_t layer = 0; layer < batch.layers; ++layer) {
    StoreId& from = batch.landed_from[size_t{number} * batch.layers + layer];
    if (from != kNotLanded) continue;
    from = kNotAsked;
    --part.layers_left;
    --batch.parts_of_layer[layer];
  }
  part.has_landed = true;
  --batch.parts_left;
  ++counters_.split_again;
  const uint32_t first = batch.part_count;
  AddParts(batch, parts, /*is_registered=*/false, now);
  for (uint32_t next = first; next < batch.part_count && !batch.has_ended; ++next) {
    Ask(batch, next, now, actions);
  }
  EndIfLanded(batch, actions);
  return absl::OkStatus();
}

void Router::Cancel(BatchId id, MonotonicTime now, Actions* actions) {
  Batch* const batch = FindBatch(id);
  if (batch == nullptr || batch->has_ended) return;
  FailBatch(*batch, absl::CancelledError("the batch was cancelled"), now, actions);
}

bool Router::MayLand(AttemptId id, MonotonicTime now, Actions* actions) {
  Attempt* const attempt = FindAttempt(id);
  if (attempt == nullptr) return false;
  HearFrom(attempt->store, now, actions);
  if (attempt->state != AttemptState::kOpen) return false;
  Part& part = batches_[attempt->batch].parts[attempt->part];
  if (part.current == kNoAttempt) {
    part.current = id;
    for (const AttemptId other : part.open) {
      if (other != kNoAttempt && other != id) Lose(*FindAttempt(other), now, actions);
    }
  }
  if (part.current != id) return false;
  attempt->has_begun = true;
  return true;
}

void Router::LayerLanded(AttemptId id, uint32_t layer, MonotonicTime now, Actions* actions) {
  if (!MayLand(id, now, actions)) return;
  const Attempt& attempt = *FindAttempt(id);
  Batch& batch = batches_[attempt.batch];
  if (layer < batch.layers) LandLayer(batch, attempt.part, layer, attempt.store, actions);
}

void Router::Reply(AttemptId id, const absl::Status& status, absl::Duration retry_after,
                   MonotonicTime now, Actions* actions) {
  Attempt* const attempt = FindAttempt(id);
  if (attempt == nullptr) return;
  if (!status.ok()) return ReplyError(*attempt, status, retry_after, now, actions);
  HearFrom(attempt->store, now, actions);
  Batch& batch = batches_[attempt->batch];
  // One that is being drained was quicker: what it was sent for is in place, and it is over.
  const bool lands =
      attempt->state == AttemptState::kDraining ? !batch.has_ended : MayLand(id, now, actions);
  const Attempt done = *attempt;
  if (lands) {
    if (done.is_hedge) ++counters_.hedges_won;
    LatencyOf(done.bytes).Add(now - done.sent_at, now);
    if (Store* const store = FindStore(done.store)) {
      const bool was_up = store->health.standing() == StoreStanding::kUp;
      store->health.Succeeded();
      if (!was_up) KeepReplicasOf(done.store);
    }
  }
  CloseAttempt(*attempt, actions);
  if (!lands) return;
  LandPart(batch, done.part, done.store, actions);
  EndIfLanded(batch, actions);
}

void Router::FindAttemptsAt(StoreId id) {
  walked_.clear();
  for (const uint32_t slot : live_attempts_) {
    if (attempts_[slot].store == id) walked_.push_back(attempts_[slot].id);
  }
}

// Once a part.
void Router::SendBrokenForFree(const Attempt& attempt) {
  Part& part = batches_[attempt.batch].parts[attempt.part];
  if (attempt.state != AttemptState::kOpen || part.had_free_resend) return;
  part.had_free_resend = part.is_paid = true;
  ++counters_.free_resends;
}

void Router::DrainBroken(Attempt& attempt, Actions* actions) {
  SendBrokenForFree(attempt);
  batches_[attempt.batch].parts[attempt.part].reason = ResendReason::kBroken;
  Drain(attempt, actions);
}

void Router::ConnectionBroken(StoreId id, MonotonicTime now, Actions* actions) {
  StoreFailed(id, StoreFailure::kBroken, absl::UnavailableError("its connection broke"), now,
              actions);
  FindAttemptsAt(id);
  for (size_t i = 0; i < walked_.size(); ++i) {
    Attempt* const attempt = FindAttempt(walked_[i]);
    if (attempt == nullptr || attempt->state == AttemptState::kDraining) continue;
    if (attempt->way == LandingWay::kWritten) {
      DrainBroken(*attempt, actions);
      continue;
    }
    SendBrokenForFree(*attempt);
    Batch& batch = batches_[attempt->batch];
    const uint32_t number = attempt->part;
    const bool was_open = attempt->state == AttemptState::kOpen;
    CloseAttempt(*attempt, actions);
    if (was_open) {
      SendAgain(batch, number, ResendReason::kBroken,
                absl::UnavailableError("its connection broke"), now, actions);
    }
  }
}

void Router::WayBroken(StoreId id, Actions* actions) {
  FindAttemptsAt(id);
  for (const AttemptId walked : walked_) {
    Attempt* const attempt = FindAttempt(walked);
    if (attempt == nullptr || attempt->state == AttemptState::kDraining ||
        attempt->way == LandingWay::kCopied) {
      continue;
    }
    DrainBroken(*attempt, actions);
  }
}

void Router::Drained(AttemptId id, MonotonicTime now, Actions* actions) {
  Attempt* const attempt = FindAttempt(id);
  if (attempt == nullptr) return;
  Batch& batch = batches_[attempt->batch];
  const uint32_t number = attempt->part;
  const bool is_wanted = !batch.has_ended && !batch.parts[number].has_landed;
  const ResendReason reason = batch.parts[number].reason;
  CloseAttempt(*attempt, actions);
  if (is_wanted) {
    SendAgain(batch, number, reason, absl::UnavailableError("its connection was closed"), now,
              actions);
  }
}

void Router::Heard(StoreId store, MonotonicTime now, Actions* actions) {
  HearFrom(store, now, actions);
}

void Router::SetWay(StoreId id, LandingWay way, bool anywhere) {
  Store* const store = FindStore(id);
  if (store == nullptr) return;
  store->way = way;
  store->writes_anywhere = anywhere;
}

void Router::AskForMap(MonotonicTime now, Actions* actions) {
  wants_map_ = now < map_asked_at_ + kMapInterval;
  if (wants_map_) return;
  map_asked_at_ = now;
  ++counters_.maps_asked;
  actions->push_back({.kind = ActionKind::kAskForMap});
}

LatencyWindow& Router::LatencyOf(uint64_t bytes) {
  const auto doublings = static_cast<size_t>(std::bit_width(bytes / kLeastClassBytes));
  return latencies_[std::min((doublings + 1) / 2, kLatencyClasses - 1)];
}

void Router::HedgeAttempt(Attempt& attempt, MonotonicTime now, Actions* actions) {
  if (attempt.state != AttemptState::kOpen || attempt.way != LandingWay::kCopied ||
      attempt.has_begun || attempt.is_hedge || !options_.hedges || !hedge_budget_.Has()) {
    return;
  }
  Batch& batch = batches_[attempt.batch];
  const Part& part = batch.parts[attempt.part];
  const bool is_alone = part.open[0] == kNoAttempt || part.open[1] == kNoAttempt;
  if (!is_alone || part.attempts - part.moves >= kMaxWithHedges) return;
  const std::optional<absl::Duration> p95 = LatencyOf(attempt.bytes).P95(now);
  if (!p95 || now < attempt.sent_at + *p95) return;
  const StoreId store = ChooseStore(part, /*again=*/false, now);
  if (store == kNoStore || WayOf(part, *FindStore(store)) != LandingWay::kCopied) return;
  hedge_budget_.Take();
  ++counters_.hedges;
  Send(batch, attempt.part, store, /*is_hedge=*/true, now, actions);
}

void Router::Tick(MonotonicTime now, Actions* actions) {
  walked_batches_.clear();
  for (const uint32_t slot : live_batches_) walked_batches_.push_back(batches_[slot].id);
  for (const BatchId id : walked_batches_) {
    Batch* const batch = FindBatch(id);
    if (batch == nullptr || batch->has_ended || now < batch->deadline) continue;
    ++counters_.deadlines;
    FailBatch(*batch, ExplainDeadline(*batch), now, actions);
  }
  for (auto& [id, store] : stores_) {
    if (!store.health.TryAgain(now)) continue;
    ++counters_.trials;
    KeepReplicasOf(id);
    actions->push_back({.kind = ActionKind::kTryAgain, .store = id});
  }
  CheckSilence(now, actions);
  walked_.clear();
  for (const uint32_t slot : live_attempts_) walked_.push_back(attempts_[slot].id);
  for (size_t i = 0; i < walked_.size(); ++i) {
    Attempt* const attempt = FindAttempt(walked_[i]);
    if (attempt == nullptr) continue;
    if (attempt->way == LandingWay::kWritten && attempt->state == AttemptState::kLost &&
        now >= attempt->lost_at + kAnswerTime) {
      Drain(*attempt, actions);
    }
    HedgeAttempt(*attempt, now, actions);
  }
  AskWaiting(now, /*has_new_map=*/false, actions);
  if (wants_map_) AskForMap(now, actions);
}

void Router::AskWaiting(MonotonicTime now, bool has_new_map, Actions* actions) {
  walked_batches_.clear();
  for (const uint32_t slot : live_batches_) {
    if (batches_[slot].waiting > 0) walked_batches_.push_back(batches_[slot].id);
  }
  for (const BatchId id : walked_batches_) {
    Batch* const found = FindBatch(id);
    if (found == nullptr) continue;
    Batch& batch = *found;
    for (uint32_t number = 0; number < batch.part_count && !batch.has_ended; ++number) {
      Part& part = batch.parts[number];
      if (!part.is_waiting) continue;
      const bool waits_for_map = part.not_before.is_infinite();
      if (waits_for_map && now >= part.gives_up_at) {
        const absl::Status none = absl::UnavailableError("no replica was heard of in time");
        FailPart(batch, number, part.last_error.ok() ? none : part.last_error, now, actions);
      } else if (waits_for_map ? has_new_map : now >= part.not_before) {
        StopWaiting(batch, part);
        if (waits_for_map) part.not_before = now;
        Ask(batch, number, now, actions);
      }
    }
    EndIfLanded(batch, actions);
  }
}

MonotonicTime Router::NextTick(MonotonicTime now) {
  MonotonicTime next = MonotonicTime::Infinite();
  // What is due and could not be done is looked at again a little later.
  const auto at = [&](MonotonicTime time) {
    next = std::min(next, time > now ? time : now + kAgainAfter);
  };
  for (const uint32_t slot : live_batches_) {
    const Batch& batch = batches_[slot];
    if (batch.has_ended) continue;
    at(batch.deadline);
    for (uint32_t i = 0; batch.waiting > 0 && i < batch.part_count; ++i) {
      const Part& part = batch.parts[i];
      if (part.is_waiting) at(std::min(part.not_before, part.gives_up_at));
    }
  }
  for (const auto& [id, store] : stores_) {
    if (store.open > 0) at(store.heard_at + kSilence);
    if (store.health.standing() == StoreStanding::kEjected) at(store.health.ejected_until());
  }
  for (const uint32_t slot : live_attempts_) {
    const Attempt& attempt = attempts_[slot];
    const bool is_written = attempt.way == LandingWay::kWritten;
    if (is_written && attempt.state == AttemptState::kLost) at(attempt.lost_at + kAnswerTime);
    if (is_written || attempt.has_begun || attempt.state != AttemptState::kOpen) continue;
    if (!options_.hedges) continue;
    const std::optional<absl::Duration> p95 = LatencyOf(attempt.bytes).P95(now);
    if (p95 && !attempt.is_hedge && hedge_budget_.Has()) at(attempt.sent_at + *p95);
  }
  if (wants_map_) at(map_asked_at_ + kMapInterval);
  return next;
}

bool Router::HasLanded(BatchId id, uint32_t part, uint32_t layer) const {
  const Batch* const batch = FindBatch(id);
  if (batch == nullptr || part >= batch->part_count || layer >= batch->layers) return false;
  const StoreId from = batch->landed_from[size_t{part} * batch->layers + layer];
  return from != kNotLanded && from != kNotAsked;
}

bool Router::IsMissing(BatchId id, uint32_t part, uint32_t layer) const {
  const Batch* const batch = FindBatch(id);
  return batch != nullptr && part < batch->part_count && layer < batch->layers &&
         batch->landed_from[size_t{part} * batch->layers + layer] == kNotLanded;
}

AttemptId Router::CurrentAttempt(BatchId id, uint32_t part) const {
  const Batch* const batch = FindBatch(id);
  if (batch == nullptr || part >= batch->part_count) return kNoAttempt;
  return batch->parts[part].current;
}

absl::string_view Router::AddressOf(StoreId id) const {
  const Store* const store = FindStore(id);
  return store == nullptr ? absl::string_view() : store->address;
}

absl::string_view Router::InstanceOf(StoreId id) const {
  const Store* const store = FindStore(id);
  return store == nullptr ? absl::string_view() : store->instance_id;
}

StoreStanding Router::StandingOf(StoreId id) const {
  const Store* const store = FindStore(id);
  return store == nullptr ? StoreStanding::kEjected : store->health.standing();
}

}  // namespace engram
