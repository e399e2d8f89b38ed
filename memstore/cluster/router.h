// Takes batches that were split by a cluster map to their stores and through what goes wrong there.
//
// A state machine without threads, locks or I/O: whoever drives it tells it what happened and what
// the time is, and does the actions that come back, in their order. Every batch ends exactly once
// (kLanded or kFailed), by its deadline where Tick is called when NextTick says; every attempt ends
// by exactly one Reply, Drained, or, of those that are copied, ConnectionBroken.
//
// * All or nothing. A part is sent to one replica; when it fails there it is sent to another, out
//   of a budget (retry_budget.h), and kMaxAttempts times in all, moves for silence not counted.
//   Layers of a part that landed are not asked for again.
// * Nothing lands from an attempt that lost. Copied rows (gRPC) land where MayLand says so, which
//   holds for one attempt of a part at a time: so a slow one may be hedged, and a silent one asked
//   for elsewhere at once. Written rows (RDMA) are never hedged: of a part that may be written no
//   other attempt is under way. It has ended by its own reply, or its queue pair was drained.
// * A store that says nothing for kSilence while parts wait for it is suspect: it is ejected, and
//   its parts move where another replica is.
// * A store that answers DATA_LOSS is fenced. What came from it is dropped and asked for elsewhere;
//   where the caller has been told of it already, the batch fails.
// * A store that refuses rows which it says it holds is not asked for them again, whatever maps
//   come, until it says something else of the set or is another instance.
// * A part whose piece is gone, for the stores cut the set otherwise by now, is split again by the
//   map, kMaxSplits times in a batch; what landed of it stays.
// * What no ready replica holds waits for a map until the deadline, kMapWait at most, and then
// fails
//   by name.
//
// Belongs to one thread at a time. Warm (as many batches, parts and layers open as before, nothing
// failing) it allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/cluster/heard_stores.h"
#include "memstore/cluster/latency_window.h"
#include "memstore/cluster/replica_choice.h"
#include "memstore/cluster/retry_budget.h"
#include "memstore/cluster/router_types.h"
#include "memstore/cluster/split.h"
#include "memstore/cluster/store_health.h"

namespace engram {

struct RouterOptions {
  std::string client_id;                 // which replicas are kept follows from it
  std::string zone;                      // empty: none is nearer
  LandingWay way = LandingWay::kCopied;  // of stores, until SetWay says another
  bool hedges = true;                    // false: to see what they are worth
};

class Router {
 public:
  // Batches that are open at once, those that ended with attempts left included.
  static constexpr uint32_t kMaxOpenBatches = 2048;
  // A first attempt and three more: with a budget of a tenth the fourth is for the worst day.
  static constexpr uint32_t kMaxAttempts = 4;
  // Hedges take none but these: the last is for when no other attempt is left.
  static constexpr uint32_t kMaxWithHedges = kMaxAttempts - 1;
  // Moves away from a silent store count for none of them, for silence may be this machine's own.
  // Each waits twice as long as the one before, up to 64 times kSilence.
  static constexpr uint32_t kMaxSilenceDoublings = 6;
  // A piece has some replicas; of more a part may ask one twice before the others.
  static constexpr uint32_t kMaxTriedRemembered = 8;
  // Ten times what a loaded store takes for a slab, a third of what people notice.
  static constexpr absl::Duration kSilence = absl::Milliseconds(100);
  // Before a part goes where it has been: doubled each time. A queue empties in as long.
  static constexpr absl::Duration kAgainAfter = absl::Milliseconds(10);
  // That a batch without a deadline, or with a later one, waits for a map at most.
  static constexpr absl::Duration kMapWait = absl::Seconds(10);
  // Of all batches together: asking is one message to each store.
  static constexpr absl::Duration kMapInterval = absl::Seconds(1);
  // Maps that a part waits for after "does not hold": the first may be older than the answer.
  static constexpr uint32_t kMaxMapRounds = 2;
  // Parts of one batch that are split again: stores that cut the set anew without an end are none
  // to wait for.
  static constexpr uint32_t kMaxSplits = 64;
  // Instances whose lies are remembered while no map has them. One that is forgotten costs an
  // attempt.
  static constexpr size_t kMaxRemembered = 64;
  // How long a written attempt that is not wanted any more may be answered by its owner before its
  // queue pair is drained: half of what giving memory back may take (kReapTime).
  static constexpr absl::Duration kAnswerTime = absl::Milliseconds(500);

  // `random` outlives the router, which draws from it whenever it chooses.
  Router(RouterOptions options, std::mt19937_64* random);
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;
  ~Router();

  using Actions = std::vector<RouterAction>;  // what comes back is appended

  // A map of the same set as the one before. Parts that waited for it are sent; stores that are
  // gone finish what they have.
  void SetMap(std::shared_ptr<const ClusterMap> map, MonotonicTime now, Actions* actions);

  // `parts`: as split by `map`, over a batch of `layers` layers. ABORTED: that is not the router's
  // map (any more): split again. RESOURCE_EXHAUSTED: kMaxOpenBatches are open. DEADLINE_EXCEEDED:
  // it has passed. With an error nothing was begun. `tag` comes back with the batch's actions.
  // `is_registered`: devices may write where its rows land. Parts whose rows land by a list of
  // places, and batches that are not registered, are copied where a store does not write anywhere.
  absl::StatusOr<BatchId> Submit(uint64_t tag, const ClusterMap* map,
                                 absl::Span<const SplitPart> parts, uint32_t layers,
                                 MonotonicTime deadline, MonotonicTime now, Actions* actions,
                                 bool is_registered = false);
  // What a part was split into after kSplitAgain: layers keep their numbers, and the new parts'
  // numbers follow those that the batch has. ABORTED: that is not the router's map (any more):
  // split it again. FAILED_PRECONDITION: that is not wanted any more, and there is nothing to do.
  absl::Status TakeSplit(BatchId batch, uint32_t part, const ClusterMap* map,
                         absl::Span<const SplitPart> parts, MonotonicTime now, Actions* actions);
  // CANCELLED, where it has not ended.
  void Cancel(BatchId batch, MonotonicTime now, Actions* actions);

  // Rows of a copied attempt are here: whether they may be copied into the caller's memory. The
  // first attempt of a part that asks is the one, and the other is cancelled. Also the store's sign
  // of life.
  bool MayLand(AttemptId attempt, MonotonicTime now, Actions* actions);
  // The rows of one layer (by its place in the batch) are all in place.
  void LayerLanded(AttemptId attempt, uint32_t layer, MonotonicTime now, Actions* actions);
  // The attempt's end. OK: everything that it was sent for is in place. `retry_after`: that the
  // store gave with RESOURCE_EXHAUSTED. Of an attempt that has ended: nothing.
  void Reply(AttemptId attempt, const absl::Status& status, absl::Duration retry_after,
             MonotonicTime now, Actions* actions);
  // Ends every copied attempt there. Written ones are to be drained (kDrain).
  void ConnectionBroken(StoreId store, MonotonicTime now, Actions* actions);
  // Of the written attempts alone, where the store is reached in another way from now on (SetWay):
  // it is none the worse for that its queue pair broke, or was cut.
  void WayBroken(StoreId store, Actions* actions);
  void Drained(AttemptId attempt, MonotonicTime now, Actions* actions);
  // A sign of life that belongs to no attempt (a word on the stream of holdings).
  void Heard(StoreId store, MonotonicTime now, Actions* actions);
  // How attempts that are sent from now on land. `anywhere`: where it is kWritten, into any memory
  // and by lists of places, too; else only as Submit's `is_registered` says.
  void SetWay(StoreId store, LandingWay way, bool anywhere = true);

  // Deadlines, silence, hedges, what waits. NextTick: when there may be something to do next.
  void Tick(MonotonicTime now, Actions* actions);
  MonotonicTime NextTick(MonotonicTime now);

  // Whether a layer of a part is in place, so that an attempt that is sent leaves it out.
  bool HasLanded(BatchId batch, uint32_t part, uint32_t layer) const;
  // Whether a layer of a part is asked for and not in place.
  bool IsMissing(BatchId batch, uint32_t part, uint32_t layer) const;
  // The attempt whose rows may land; kNoAttempt: none was taken yet, or none is under way.
  AttemptId CurrentAttempt(BatchId batch, uint32_t part) const;
  const ClusterMap* map() const { return map_.get(); }
  absl::string_view AddressOf(StoreId store) const;
  absl::string_view InstanceOf(StoreId store) const;
  StoreStanding StandingOf(StoreId store) const;
  // Stores of the map that are not asked for all that they say they hold, and why.
  std::vector<RefusedStore> Liars() const;
  const RouterCounters& counters() const { return counters_; }
  // As the map and the stores' standings are now. It allocates.
  ClusterView View() const;

 private:
  enum class AttemptState : uint8_t {
    kOpen,      // its rows may land
    kLost,      // they may not; its end is awaited
    kDraining,  // its queue pair is being drained
  };
  struct Attempt {
    AttemptId id = kNoAttempt;
    bool is_live = false;
    uint32_t place = 0;  // in live_attempts_
    uint32_t batch = 0;  // slot
    uint32_t part = 0;
    StoreId store = kNoStore;
    LandingWay way = LandingWay::kCopied;
    AttemptState state = AttemptState::kOpen;
    bool is_hedge = false;
    bool has_begun = false;  // rows of it have come
    MonotonicTime sent_at;
    MonotonicTime lost_at;
    uint64_t bytes = 0;
  };
  struct Part {
    uint32_t piece = 0;  // of pieces_
    uint64_t bytes = 0;
    uint32_t layers_left = 0;
    std::array<AttemptId, 2> open{};  // attempts that may land, or are drained to be sent again
    AttemptId current = kNoAttempt;
    uint32_t attempts = 0;
    uint32_t moves = 0;  // of the attempts, those that were made because a store was silent
    uint32_t map_rounds = 0;
    uint32_t tried_count = 0;
    std::array<StoreId, kMaxTriedRemembered> tried{};
    bool has_landed = false;
    bool is_registered = false;  // a device may write all of its rows
    bool is_waiting = false;     // for a time or a map
    bool wants_split = false;
    bool had_free_resend = false;
    bool is_paid = false;  // the next attempt is out of the budget already, or free
    ResendReason reason = ResendReason::kNone;
    MonotonicTime not_before;
    MonotonicTime gives_up_at = MonotonicTime::Infinite();  // waiting for a map
    absl::Status last_error;
  };
  struct Batch {
    BatchId id = 0;
    bool is_live = false;
    uint32_t place = 0;  // in live_batches_
    uint64_t tag = 0;
    MonotonicTime deadline;
    bool has_ended = false;
    bool is_released = false;
    uint32_t layers = 0;
    uint32_t part_count = 0;
    uint32_t parts_left = 0;
    uint32_t splits = 0;                   // parts that were to be split again
    uint32_t waiting = 0;                  // parts
    uint32_t attempts = 0;                 // that have not ended
    uint32_t written = 0;                  // of them
    std::vector<Part> parts;               // the first part_count
    std::vector<uint32_t> parts_of_layer;  // [layers], that have not landed it
    std::vector<uint8_t> was_told;         // [layers]
    std::vector<StoreId> landed_from;      // [parts][layers], or kNotAsked, kNotLanded
  };
  static constexpr StoreId kNotLanded = kNoStore;
  static constexpr StoreId kNotAsked = UINT32_MAX;

  // What a store says of the set, and what of that it refused.
  struct Word {
    uint64_t generation = 0;
    std::vector<HeldColumns> columns;
    std::vector<bool> refused;  // [layers][columns]; empty: nothing
    absl::Status why;           // the last time

    bool SaysTheSame(const MapStore& store) const {
      return generation == store.generation && columns == store.columns;
    }
  };
  struct Store {
    Word word;
    std::string instance_id;
    std::string address;
    std::string zone;
    uint64_t hash = 0;
    bool is_in_map = false;
    bool is_draining = false;
    LandingWay way = LandingWay::kCopied;
    bool writes_anywhere = true;
    StoreHealth health;
    uint32_t attempts = 0;   // that have not ended
    uint32_t open = 0;       // of them, those whose rows are waited for
    uint64_t bytes = 0;      // of the open ones
    uint64_t owed = 0;       // of those that were lost since it was heard
    MonotonicTime heard_at;  // or: when the first of the open ones was sent
    MonotonicTime busy_until;
  };
  // A piece of this map or of one before that parts are still open of.
  struct Piece {
    explicit Piece(uint64_t client_hash) : choice(client_hash) {}
    MapPiece piece;
    std::vector<StoreId> holders;
    std::vector<StoreId> not_holding;  // holders that refused some of it
    bool is_covered = false;           // each column has a holder, be it no common one
    ReplicaChoice choice;
    RetryBudget budget;
    bool is_in_map = false;
    uint32_t open_parts = 0;
  };

  // router.cc
  void FindAttemptsAt(StoreId store);
  void DrainBroken(Attempt& attempt, Actions* actions);
  void SendBrokenForFree(const Attempt& attempt);
  void AskForMap(MonotonicTime now, Actions* actions);
  void HedgeAttempt(Attempt& attempt, MonotonicTime now, Actions* actions);
  LatencyWindow& LatencyOf(uint64_t bytes);
  void AskWaiting(MonotonicTime now, bool has_new_map, Actions* actions);
  // router_batches.cc
  Attempt* FindAttempt(AttemptId id);
  Batch* FindBatch(BatchId id);
  const Batch* FindBatch(BatchId id) const;
  Batch& OpenBatch();
  Attempt& OpenAttempt();
  void FreeAttempt(Attempt& attempt);
  void FillParts(Batch& batch, absl::Span<const SplitPart> parts, bool is_registered,
                 MonotonicTime now);
  void AddParts(Batch& batch, absl::Span<const SplitPart> parts, bool is_registered,
                MonotonicTime now);
  void LandLayer(Batch& batch, uint32_t part, uint32_t layer, StoreId store, Actions* actions);
  void LandPart(Batch& batch, uint32_t part, StoreId store, Actions* actions);
  void EndIfLanded(Batch& batch, Actions* actions);
  void DropFrom(StoreId store, const absl::Status& why, MonotonicTime now, Actions* actions);
  bool DropPartFrom(Batch& batch, uint32_t part, StoreId store);
  void FailBatch(Batch& batch, const absl::Status& status, MonotonicTime now, Actions* actions);
  void FailPart(Batch& batch, uint32_t part, const absl::Status& why, MonotonicTime now,
                Actions* actions);
  absl::Status Explain(const Part& part, uint32_t number, const absl::Status& why) const;
  absl::Status ExplainDeadline(const Batch& batch) const;
  void Release(Batch& batch, Actions* actions);
  void CloseIfDone(Batch& batch);
  // router_attempts.cc
  bool CanAsk(const Piece& piece, const Part& part, StoreId store, bool again,
              MonotonicTime now) const;
  StoreId ChooseStore(const Part& part, bool again, MonotonicTime now);
  StoreId ChooseEjected(const Part& part) const;
  void Ask(Batch& batch, uint32_t part, MonotonicTime now, Actions* actions);
  void AskForSplit(Batch& batch, uint32_t part, MonotonicTime now, Actions* actions);
  void AskWithoutStore(Batch& batch, uint32_t part, MonotonicTime now, Actions* actions);
  void SendPaid(Batch& batch, uint32_t part, StoreId store, MonotonicTime now, Actions* actions);
  static LandingWay WayOf(const Part& part, const Store& store);
  bool Pay(Part& part, MonotonicTime now);
  AttemptId Send(Batch& batch, uint32_t part, StoreId store, bool is_hedge, MonotonicTime now,
                 Actions* actions);
  void Wait(Batch& batch, Part& part, MonotonicTime until);
  void StopWaiting(Batch& batch, Part& part);
  void Lose(Attempt& attempt, MonotonicTime now, Actions* actions);
  void Drain(Attempt& attempt, Actions* actions);
  void CloseAttempt(Attempt& attempt, Actions* actions);
  void LeavePart(Attempt& attempt);
  void LeaveStore(const Attempt& attempt);
  void SendAgain(Batch& batch, uint32_t part, ResendReason reason, const absl::Status& why,
                 MonotonicTime now, Actions* actions);
  void ReplyError(Attempt& attempt, const absl::Status& status, absl::Duration retry_after,
                  MonotonicTime now, Actions* actions);
  // router_stores.cc
  Store* FindStore(StoreId id);
  const Store* FindStore(StoreId id) const;
  void HearFrom(StoreId id, MonotonicTime now, Actions* actions);
  void StoreFailed(StoreId id, StoreFailure failure, const absl::Status& why, MonotonicTime now,
                   Actions* actions);
  void CheckSilence(MonotonicTime now, Actions* actions);
  void MoveAttempt(Attempt& attempt, MonotonicTime now, Actions* actions);
  void KeepReplicas(Piece& piece);
  void KeepReplicasOf(StoreId store);
  void TakeStores(const ClusterMap& map, std::vector<StoreId>* ids);
  bool Refuses(const Word& word, absl::Span<const HeldColumns> columns) const;
  void TakeRefusal(StoreId store, Piece& piece, const absl::Status& why);
  void Remember(Store& store);
  void TakePieces(const ClusterMap& map, absl::Span<const StoreId> ids);
  void ForgetIfGone(StoreId store, Actions* actions);

  const RouterOptions options_;
  const uint64_t client_hash_;
  std::mt19937_64& random_;
  std::shared_ptr<const ClusterMap> map_;
  std::map<StoreId, Store> stores_;
  StoreId last_store_ = kNoStore;
  std::deque<std::pair<std::string, Word>> remembered_;  // by instance id, the oldest first
  std::vector<std::unique_ptr<Piece>> pieces_;
  std::vector<uint32_t> piece_of_map_;  // [pieces of the map]
  std::deque<Batch> batches_;
  std::vector<uint32_t> free_batches_, live_batches_;
  std::deque<Attempt> attempts_;
  std::vector<uint32_t> free_attempts_, live_attempts_;
  // What a walk goes through, for it may end some of it.
  std::vector<AttemptId> walked_;
  std::vector<BatchId> walked_batches_;
  std::vector<Replica> usable_;  // scratch of KeepReplicas
  bool wants_map_ = false;       // not asked for yet, for it was asked for a moment ago
  MonotonicTime map_asked_at_ = MonotonicTime::FromNanoseconds(INT64_MIN / 2);
  HedgeBudget hedge_budget_;
  // By size of the part, a factor of four each: a prefill takes longer than a token by nature.
  static constexpr size_t kLatencyClasses = 8;
  static constexpr uint64_t kLeastClassBytes = 16 << 10;
  std::array<LatencyWindow, kLatencyClasses> latencies_;
  RouterCounters counters_;
};

}  // namespace engram
