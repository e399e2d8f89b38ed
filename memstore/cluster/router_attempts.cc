// The router's attempts: which store is asked, what is sent again, and what becomes of errors.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/cluster/router.h"

namespace engram {
namespace {

template <typename List>
bool Contains(const List& list, StoreId store) {
  return std::find(list.begin(), list.end(), store) != list.end();
}

// Whether a store that answers so was reached: other codes may be the client's own.
bool IsSignOfLife(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInvalidArgument:
      return true;
    default:
      return false;
  }
}

}  // namespace

bool Router::CanAsk(const Piece& piece, const Part& part, StoreId id, bool again,
                    MonotonicTime now) const {
  const Store* const store = FindStore(id);
  if (store == nullptr || now < store->busy_until || Contains(piece.not_holding, id)) return false;
  if (!again && Contains(absl::MakeConstSpan(part.tried.data(), part.tried_count), id)) {
    return false;
  }
  const StoreStanding standing = store->health.standing();
  return standing == StoreStanding::kUp ||
         (standing == StoreStanding::kOnTrial && store->open == 0);
}

StoreId Router::ChooseStore(const Part& part, bool again, MonotonicTime now) {
  const Piece& piece = *pieces_[part.piece];
  const auto may_ask = [&](StoreId id) { return CanAsk(piece, part, id, again, now); };
  // What a hedge won, or was given up, the store owes until it is heard: else one that has stopped
  // would look idle whenever its last part is taken from it, and get the next one.
  const auto bytes = [&](StoreId id) {
    const Store& store = *FindStore(id);
    return store.bytes + store.owed;
  };
  if (const auto chosen = piece.choice.Choose(random_, may_ask, bytes)) return *chosen;
  // Those that are kept were all asked, or are busy.
  StoreId best = kNoStore;
  for (const StoreId id : piece.holders) {
    if (may_ask(id) && (best == kNoStore || bytes(id) < bytes(best))) best = id;
  }
  return best;
}

// Where no replica is known to answer one is asked all the same: it may be back, and an error soon
// is better than none until the deadline.
StoreId Router::ChooseEjected(const Part& part) const {
  const Piece& piece = *pieces_[part.piece];
  const absl::Span<const StoreId> tried(part.tried.data(), part.tried_count);
  StoreId best = kNoStore;
  for (const StoreId id : piece.holders) {
    const Store* const store = FindStore(id);
    if (store == nullptr || Contains(piece.not_holding, id)) continue;
    const StoreStanding standing = store->health.standing();
    if (standing != StoreStanding::kEjected && standing != StoreStanding::kOnTrial) continue;
    if (best == kNoStore || (Contains(tried, best) && !Contains(tried, id)) ||
        (Contains(tried, best) == Contains(tried, id) &&
         store->health.ejected_until() < FindStore(best)->health.ejected_until())) {
      best = id;
    }
  }
  return best;
}

void Router::Ask(Batch& batch, uint32_t number, MonotonicTime now, Actions* actions) {
  Part& part = batch.parts[number];
  part.wants_split = false;
  if (part.attempts - part.moves >= kMaxAttempts) {
    return FailPart(batch, number, part.last_error, now, actions);
  }
  const Piece& piece = *pieces_[part.piece];
  if (piece.holders.empty() && piece.is_covered) return AskForSplit(batch, number, now, actions);
  StoreId store = ChooseStore(part, /*again=*/false, now);
  if (store == kNoStore && now < part.not_before) return Wait(batch, part, part.not_before);
  if (store == kNoStore) store = ChooseStore(part, /*again=*/true, now);
  if (store == kNoStore) return AskWithoutStore(batch, number, now, actions);
  SendPaid(batch, number, store, now, actions);
}

void Router::SendPaid(Batch& batch, uint32_t number, StoreId store, MonotonicTime now,
                      Actions* actions) {
  Part& part = batch.parts[number];
  if (!Pay(part, now)) {
    const absl::Status why(
        part.last_error.code(),
        absl::StrCat(part.last_error.message(), " (not asked again: the retry budget is spent)"));
    return FailPart(batch, number, why, now, actions);
  }
  Send(batch, number, store, /*is_hedge=*/false, now, actions);
}

void Router::AskForSplit(Batch& batch, uint32_t number, MonotonicTime now, Actions* actions) {
  if (batch.splits++ >= kMaxSplits) {
    return FailPart(batch, number,
                    absl::AbortedError("the table set is cut anew among the stores again and "
                                       "again: submit the batch once that is over"),
                    now, actions);
  }
  Part& part = batch.parts[number];
  part.wants_split = true;
  if (part.gives_up_at.is_infinite()) part.gives_up_at = now + kMapWait;
  Wait(batch, part, MonotonicTime::Infinite());
  actions->push_back(
      {.kind = ActionKind::kSplitAgain, .batch = batch.id, .tag = batch.tag, .part = number});
}

void Router::AskWithoutStore(Batch& batch, uint32_t number, MonotonicTime now, Actions* actions) {
  Part& part = batch.parts[number];
  const Piece& piece = *pieces_[part.piece];
  MonotonicTime until = MonotonicTime::Infinite();
  bool all_fenced = !piece.holders.empty();
  bool all_refuse = all_fenced;
  for (const StoreId id : piece.holders) {
    const Store* const store = FindStore(id);
    if (store == nullptr) continue;
    all_fenced &= store->health.standing() == StoreStanding::kFenced;
    all_refuse &= Contains(piece.not_holding, id);
    // Of a batch that asked nobody.
    if (all_refuse && part.last_error.ok()) part.last_error = store->word.why;
    if (now < store->busy_until && !Contains(piece.not_holding, id) &&
        store->health.standing() != StoreStanding::kFenced) {
      until = std::min(until, store->busy_until);
    }
  }
  if (!until.is_infinite()) return Wait(batch, part, until);
  if (const StoreId store = ChooseEjected(part); store != kNoStore) {
    return SendPaid(batch, number, store, now, actions);
  }
  if (all_fenced) {
    return FailPart(batch, number,
                    absl::DataLossError("every replica has damaged rows and is fenced"), now,
                    actions);
  }
  if (all_refuse) part.reason = ResendReason::kNotHeld;
  if (part.reason == ResendReason::kNotHeld && ++part.map_rounds > kMaxMapRounds) {
    return FailPart(batch, number, part.last_error, now, actions);
  }
  AskForMap(now, actions);
  if (part.gives_up_at.is_infinite()) part.gives_up_at = now + kMapWait;
  Wait(batch, part, MonotonicTime::Infinite());
}

// How an attempt of the part lands that is sent there now.
LandingWay Router::WayOf(const Part& part, const Store& store) {
  return store.writes_anywhere || part.is_registered ? store.way : LandingWay::kCopied;
}

// Whether the next attempt may be sent, out of which budget it ever is.
bool Router::Pay(Part& part, MonotonicTime now) {
  Piece& piece = *pieces_[part.piece];
  if (part.attempts == 0) {
    piece.budget.CountFirst(now);
    hedge_budget_.CountFirst();
    ++counters_.first_attempts;
    return true;
  }
  if (std::exchange(part.is_paid, false)) return true;
  const auto reason = static_cast<size_t>(part.reason);
  const bool paid = piece.budget.Take(now);
  ++(paid ? counters_.resends : counters_.refusals)[reason];
  return paid;
}

AttemptId Router::Send(Batch& batch, uint32_t number, StoreId id, bool is_hedge, MonotonicTime now,
                       Actions* actions) {
  Part& part = batch.parts[number];
  Store& store = *FindStore(id);
  Attempt& attempt = OpenAttempt();
  attempt.batch = static_cast<uint32_t>(live_batches_[batch.place]);
  attempt.part = number;
  attempt.store = id;
  attempt.way = WayOf(part, store);
  attempt.is_hedge = is_hedge;
  attempt.sent_at = now;
  attempt.bytes = part.bytes;
  ++batch.attempts;
  if (attempt.way == LandingWay::kWritten) ++batch.written;
  ++store.attempts;
  if (++store.open == 1) store.heard_at = std::max(store.heard_at, now);
  store.bytes += part.bytes;
  part.open[part.open[0] == kNoAttempt ? 0 : 1] = attempt.id;
  part.current = attempt.way == LandingWay::kWritten ? attempt.id : kNoAttempt;
  ++part.attempts;
  part.gives_up_at = MonotonicTime::Infinite();
  const bool is_known = Contains(absl::MakeConstSpan(part.tried.data(), part.tried_count), id);
  if (!is_known && part.tried_count < kMaxTriedRemembered) {
    part.tried[part.tried_count++] = id;
  }
  actions->push_back({.kind = ActionKind::kSend,
                      .batch = batch.id,
                      .tag = batch.tag,
                      .part = number,
                      .attempt = attempt.id,
                      .store = id,
                      .way = attempt.way,
                      .deadline = batch.deadline});
  return attempt.id;
}

void Router::Wait(Batch& batch, Part& part, MonotonicTime until) {
  part.not_before = until;
  if (!part.is_waiting) ++batch.waiting;
  part.is_waiting = true;
}

void Router::StopWaiting(Batch& batch, Part& part) {
  part.is_waiting = false;
  --batch.waiting;
}

// No rows of it land from here on.
void Router::LeavePart(Attempt& attempt) {
  Part& part = batches_[attempt.batch].parts[attempt.part];
  for (AttemptId& open : part.open) {
    if (open == attempt.id) open = kNoAttempt;
  }
  if (part.current == attempt.id) part.current = kNoAttempt;
}

void Router::LeaveStore(const Attempt& attempt) {
  if (attempt.state != AttemptState::kOpen) return;
  Store& store = *FindStore(attempt.store);
  --store.open;
  store.bytes -= attempt.bytes;
}

void Router::Lose(Attempt& attempt, MonotonicTime now, Actions* actions) {
  LeavePart(attempt);
  LeaveStore(attempt);
  if (attempt.state == AttemptState::kOpen) FindStore(attempt.store)->owed += attempt.bytes;
  attempt.state = AttemptState::kLost;
  attempt.lost_at = now;
  ++counters_.cancels;
  actions->push_back({.kind = ActionKind::kCancel,
                      .batch = batches_[attempt.batch].id,
                      .tag = batches_[attempt.batch].tag,
                      .part = attempt.part,
                      .attempt = attempt.id,
                      .store = attempt.store,
                      .way = attempt.way});
}

// It stays one of its part's, so that nothing else is sent for that before it is drained.
void Router::Drain(Attempt& attempt, Actions* actions) {
  LeaveStore(attempt);
  attempt.state = AttemptState::kDraining;
  Part& part = batches_[attempt.batch].parts[attempt.part];
  if (part.current == attempt.id) part.current = kNoAttempt;
  ++counters_.drains;
  actions->push_back({.kind = ActionKind::kDrain,
                      .batch = batches_[attempt.batch].id,
                      .tag = batches_[attempt.batch].tag,
                      .part = attempt.part,
                      .attempt = attempt.id,
                      .store = attempt.store,
                      .way = attempt.way});
}

void Router::CloseAttempt(Attempt& attempt, Actions* actions) {
  LeavePart(attempt);
  LeaveStore(attempt);
  const StoreId store = attempt.store;
  Batch& batch = batches_[attempt.batch];
  --batch.attempts;
  if (attempt.way == LandingWay::kWritten) --batch.written;
  FreeAttempt(attempt);
  --FindStore(store)->attempts;
  ForgetIfGone(store, actions);
  Release(batch, actions);
  CloseIfDone(batch);
}

void Router::SendAgain(Batch& batch, uint32_t number, ResendReason reason, const absl::Status& why,
                       MonotonicTime now, Actions* actions) {
  if (!batch.is_live || batch.has_ended) return;
  Part& part = batch.parts[number];
  part.last_error = why;
  part.reason = reason;
  if (part.has_landed || part.open[0] != kNoAttempt || part.open[1] != kNoAttempt) return;
  if (part.layers_left == 0) {  // it failed after its last row
    LandPart(batch, number, kNoStore, actions);
    return EndIfLanded(batch, actions);
  }
  part.not_before = now + kAgainAfter * (1 << std::min(part.attempts, kMaxAttempts));
  Ask(batch, number, now, actions);
}

void Router::ReplyError(Attempt& attempt, const absl::Status& status, absl::Duration retry_after,
                        MonotonicTime now, Actions* actions) {
  const StoreId id = attempt.store;
  const bool was_wanted = attempt.state != AttemptState::kLost;
  Batch& batch = batches_[attempt.batch];
  const uint32_t number = attempt.part;
  Piece& piece = *pieces_[batch.parts[number].piece];
  Store& store = *FindStore(id);
  ResendReason reason = ResendReason::kUnavailable;
  bool is_final = false;
  if (IsSignOfLife(status.code())) HearFrom(id, now, actions);
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
      is_final = true;  // another replica would say the same
      break;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      reason = ResendReason::kBusy;
      if (was_wanted) store.busy_until = now + std::max(retry_after, kAgainAfter);
      break;
    case absl::StatusCode::kFailedPrecondition:
      reason = ResendReason::kNotHeld;
      TakeRefusal(id, piece, status);
      AskForMap(now, actions);
      break;
    case absl::StatusCode::kDataLoss:
      reason = ResendReason::kDamaged;
      StoreFailed(id, StoreFailure::kDamaged, status, now, actions);
      break;
    case absl::StatusCode::kCancelled:
      if (!was_wanted) break;  // our own
      [[fallthrough]];
    default:
      StoreFailed(id, StoreFailure::kError, status, now, actions);
  }
  CloseAttempt(attempt, actions);
  if (reason == ResendReason::kDamaged) DropFrom(id, status, now, actions);
  if (!was_wanted || !batch.is_live || batch.has_ended) return;
  if (is_final) return FailPart(batch, number, status, now, actions);
  if (now >= batch.deadline) return FailBatch(batch, ExplainDeadline(batch), now, actions);
  if (!batch.parts[number].is_waiting) SendAgain(batch, number, reason, status, now, actions);
}

}  // namespace engram
