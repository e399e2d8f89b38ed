// The router's stores and pieces: what a map says of them, their silence, and who is kept.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/cluster/router.h"

namespace engram {
namespace {

constexpr uint32_t kNoPiece = UINT32_MAX;

// Where each column stands in [layers][columns].
template <typename Visit>
void ForEachPlace(absl::Span<const HeldColumns> columns, uint32_t layer_columns, Visit&& visit) {
  for (size_t i = 0; i < columns.size(); ++i) {
    for (const ColumnRun& run : columns[i].runs) {
      for (uint32_t c = 0; c < run.columns; ++c) visit(i * layer_columns + run.first_column + c);
    }
  }
}

}  // namespace

Router::Store* Router::FindStore(StoreId id) {
  const auto found = stores_.find(id);
  return found == stores_.end() ? nullptr : &found->second;
}

const Router::Store* Router::FindStore(StoreId id) const {
  return const_cast<Router*>(this)->FindStore(id);
}

void Router::HearFrom(StoreId id, MonotonicTime now, Actions* actions) {
  Store* const store = FindStore(id);
  if (store == nullptr) return;
  store->heard_at = std::max(store->heard_at, now);
  store->owed = 0;
  if (!store->health.Heard()) return;
  KeepReplicasOf(id);
  actions->push_back({.kind = ActionKind::kTryAgain, .store = id});
}

void Router::StoreFailed(StoreId id, StoreFailure failure, const absl::Status& why,
                         MonotonicTime now, Actions* actions) {
  Store* const store = FindStore(id);
  if (store == nullptr || !store->health.Failed(failure, now, random_)) return;
  const bool is_fenced = failure == StoreFailure::kDamaged;
  ++(is_fenced ? counters_.fences : counters_.ejections);
  KeepReplicasOf(id);
  actions->push_back(
      {.kind = is_fenced ? ActionKind::kFence : ActionKind::kEject, .store = id, .status = why});
}

void Router::CheckSilence(MonotonicTime now, Actions* actions) {
  bool is_any_silent = false;
  for (auto& [id, store] : stores_) {
    if (store.open == 0 || now < store.heard_at + kSilence) continue;
    is_any_silent = true;
    StoreFailed(id, StoreFailure::kSilent,
                absl::UnavailableError(absl::StrCat("it said nothing for ",
                                                    absl::FormatDuration(now - store.heard_at))),
                now, actions);
  }
  if (!is_any_silent) return;
  walked_.clear();
  for (const uint32_t slot : live_attempts_) walked_.push_back(attempts_[slot].id);
  for (size_t i = 0; i < walked_.size(); ++i) {
    Attempt* const attempt = FindAttempt(walked_[i]);
    if (attempt == nullptr || attempt->state != AttemptState::kOpen) continue;
    const uint32_t moves = batches_[attempt->batch].parts[attempt->part].moves;
    const absl::Duration patience = kSilence * (1 << std::min(moves, kMaxSilenceDoublings));
    if (now >= FindStore(attempt->store)->heard_at + patience) MoveAttempt(*attempt, now, actions);
  }
}

// To another replica, where there is one that may be asked and the budget allows it. Else it stays:
// the store may answer still.
void Router::MoveAttempt(Attempt& attempt, MonotonicTime now, Actions* actions) {
  Batch& batch = batches_[attempt.batch];
  const uint32_t number = attempt.part;
  Part& part = batch.parts[number];
  const bool has_other = part.open[0] != kNoAttempt && part.open[1] != kNoAttempt;
  if (has_other) return;
  StoreId store = ChooseStore(part, /*again=*/false, now);
  // One that was tried, and was silent for a moment, is better than one that is silent now.
  if (store == kNoStore) store = ChooseStore(part, /*again=*/true, now);
  if (store == kNoStore || store == attempt.store) return;
  part.reason = ResendReason::kSilent;
  part.last_error = absl::UnavailableError("the store said nothing");
  if (!Pay(part, now)) return;
  ++part.moves;
  if (attempt.way == LandingWay::kWritten) {
    part.is_paid = true;  // it is sent once this one is drained
    return Drain(attempt, actions);
  }
  Lose(attempt, now, actions);
  Send(batch, number, store, /*is_hedge=*/false, now, actions);
}

void Router::KeepReplicas(Piece& piece) {
  usable_.clear();
  for (const StoreId id : piece.holders) {
    const Store* const store = FindStore(id);
    if (store == nullptr || std::find(piece.not_holding.begin(), piece.not_holding.end(), id) !=
                                piece.not_holding.end()) {
      continue;
    }
    const StoreStanding standing = store->health.standing();
    if (standing != StoreStanding::kUp && standing != StoreStanding::kOnTrial) continue;
    usable_.push_back({.store = id,
                       .hash = store->hash,
                       .same_zone = !options_.zone.empty() && store->zone == options_.zone,
                       .draining = store->is_draining});
  }
  piece.choice.Keep(usable_);
}

void Router::KeepReplicasOf(StoreId store) {
  for (const std::unique_ptr<Piece>& piece : pieces_) {
    if (std::find(piece->holders.begin(), piece->holders.end(), store) != piece->holders.end()) {
      KeepReplicas(*piece);
    }
  }
}

bool Router::Refuses(const Word& word, absl::Span<const HeldColumns> columns) const {
  if (word.refused.empty()) return false;
  bool refuses = false;
  ForEachPlace(columns, map_->columns(), [&](size_t place) { refuses |= word.refused[place]; });
  return refuses;
}

void Router::TakeRefusal(StoreId id, Piece& piece, const absl::Status& why) {
  const auto is_listed = [id](const std::vector<StoreId>& list) {
    return std::find(list.begin(), list.end(), id) != list.end();
  };
  // What it does not say it holds any more is no lie.
  if (!is_listed(piece.holders)) return;
  Store& store = *FindStore(id);
  if (!is_listed(piece.not_holding)) ++counters_.lies;
  store.word.refused.resize(size_t{map_->layers()} * map_->columns());
  ForEachPlace(piece.piece.columns, map_->columns(),
               [&](size_t place) { store.word.refused[place] = true; });
  store.word.why = absl::Status(
      why.code(), absl::StrCat("store ", store.address,
                               " refuses rows that it says it holds: ", why.message()));
  for (const std::unique_ptr<Piece>& other : pieces_) {
    if (!is_listed(other->holders) || is_listed(other->not_holding) ||
        !Refuses(store.word, other->piece.columns)) {
      continue;
    }
    other->not_holding.push_back(id);
    KeepReplicas(*other);
  }
}

std::vector<RefusedStore> Router::Liars() const {
  std::vector<RefusedStore> liars;
  for (const auto& [id, store] : stores_) {
    if (store.is_in_map && !store.word.refused.empty()) {
      liars.push_back({store.address, store.word.why});
    }
  }
  return liars;
}

// Of a store that no map has any more: it may come back, and say the same.
void Router::Remember(Store& store) {
  if (store.word.refused.empty()) return;
  if (remembered_.size() == kMaxRemembered) remembered_.pop_front();
  remembered_.emplace_back(store.instance_id, std::move(store.word));
}

void Router::TakeStores(const ClusterMap& map, std::vector<StoreId>* ids) {
  for (auto& [id, store] : stores_) store.is_in_map = false;
  for (const MapStore& heard : map.stores()) {
    auto found = std::find_if(stores_.begin(), stores_.end(), [&](const auto& entry) {
      return entry.second.instance_id == heard.instance_id;
    });
    if (found == stores_.end()) {
      found = stores_.try_emplace(++last_store_).first;
      found->second.instance_id = heard.instance_id;
      found->second.hash = HashOfInstance(heard.instance_id);
      found->second.way = options_.way;
      const auto known =
          std::find_if(remembered_.begin(), remembered_.end(),
                       [&](const auto& entry) { return entry.first == heard.instance_id; });
      if (known != remembered_.end()) {
        found->second.word = std::move(known->second);
        remembered_.erase(known);
      }
    }
    Store& store = found->second;
    // Of another publication the rows were loaded anew.
    const bool is_another = heard.generation > store.word.generation;
    if (is_another && store.health.standing() == StoreStanding::kFenced) store.health = {};
    if (!store.word.SaysTheSame(heard)) {
      store.word = {
          .generation = heard.generation, .columns = heard.columns, .refused = {}, .why = {}};
    }
    store.address = heard.address;
    store.zone = heard.zone;
    store.is_draining = heard.draining;
    store.is_in_map = true;
    ids->push_back(found->first);
  }
}

void Router::TakePieces(const ClusterMap& map, absl::Span<const StoreId> ids) {
  const auto holders_of = [&](absl::Span<const uint32_t> places) {
    std::vector<StoreId> holders;
    for (const uint32_t place : places) holders.push_back(ids[place]);
    return holders;
  };
  for (const std::unique_ptr<Piece>& piece : pieces_) piece->is_in_map = false;
  piece_of_map_.assign(map.pieces().size(), kNoPiece);
  for (size_t i = 0; i < piece_of_map_.size(); ++i) {
    for (size_t known = 0; known < pieces_.size() && piece_of_map_[i] == kNoPiece; ++known) {
      if (pieces_[known]->piece.columns != map.pieces()[i].columns) continue;
      pieces_[known]->is_in_map = true;
      piece_of_map_[i] = static_cast<uint32_t>(known);
    }
  }
  for (size_t i = 0; i < piece_of_map_.size(); ++i) {
    if (piece_of_map_[i] == kNoPiece) {
      // One that nobody asks for any more makes room.
      const auto found = std::find_if(pieces_.begin(), pieces_.end(), [](const auto& piece) {
        return !piece->is_in_map && piece->open_parts == 0;
      });
      piece_of_map_[i] = static_cast<uint32_t>(found - pieces_.begin());
      if (found == pieces_.end()) pieces_.emplace_back();
      pieces_[piece_of_map_[i]] = std::make_unique<Piece>(client_hash_);
    }
    pieces_[piece_of_map_[i]]->piece = map.pieces()[i];
    pieces_[piece_of_map_[i]]->is_in_map = true;
  }
  for (const std::unique_ptr<Piece>& piece : pieces_) {
    piece->holders = holders_of(map.HoldersOf(piece->piece.columns));
    piece->is_covered = map.Covers(piece->piece.columns);
    piece->not_holding.clear();
    for (const StoreId id : piece->holders) {
      if (Refuses(FindStore(id)->word, piece->piece.columns)) piece->not_holding.push_back(id);
    }
    KeepReplicas(*piece);
  }
}

void Router::SetMap(std::shared_ptr<const ClusterMap> map, MonotonicTime now, Actions* actions) {
  ++counters_.maps;
  map_ = std::move(map);
  wants_map_ = false;
  std::vector<StoreId> ids;
  TakeStores(*map_, &ids);
  TakePieces(*map_, ids);
  for (auto next = stores_.begin(); next != stores_.end();) {
    const StoreId id = next->first;
    ++next;
    ForgetIfGone(id, actions);
  }
  AskWaiting(now, /*has_new_map=*/true, actions);
}

// One that is fenced is remembered, lest it is asked when it is heard of again.
void Router::ForgetIfGone(StoreId id, Actions* actions) {
  Store& store = *FindStore(id);
  if (store.is_in_map || store.attempts > 0 || store.health.standing() == StoreStanding::kFenced) {
    return;
  }
  Remember(store);
  stores_.erase(id);
  actions->push_back({.kind = ActionKind::kForget, .store = id});
}

}  // namespace engram
