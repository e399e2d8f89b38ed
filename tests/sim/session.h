// One router of a worker, for one table set, and all that it does for it: sends, copies, drains.
//
// What ClusterTransport does over the network is done here over simulated links, and what it must
// not do is looked for at each step.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memstore/cluster/router.h"
#include "tests/sim/batch_record.h"
#include "tests/sim/world.h"

namespace engram::sim {

class Session {
 public:
  Session(World& world, uint32_t worker, uint32_t place, uint32_t set);

  uint32_t set() const { return set_; }
  uint32_t open() const { return open_; }  // batches
  bool has_open_flights() const { return !flights_.empty(); }
  bool is_asking_for_map() const { return asks_for_map_; }
  void SetMap(std::shared_ptr<MapOfSet> map);

  void Submit();
  // One of those that are open, where the draw finds one, is not wanted any more.
  void CancelOne();
  void Tick();
  void FirstRows(uint32_t flight);
  void LastRows(uint32_t flight);
  void EndCancel(uint32_t flight);
  void Drained(uint32_t flight);
  // `is_idle_told`: also where nothing was on it.
  void Broken(uint32_t store, bool is_idle_told);
  void Heard(uint32_t store);
  // Nothing is open any more, and everything was given back.
  void CheckEnd();
  const RouterCounters& counters() const { return router_.counters(); }

 private:
  struct KnownStore {
    uint32_t place = UINT32_MAX;
    uint32_t life = 0;
  };

  const KnownStore& Known(StoreId id);
  void Act();
  void Do(const RouterAction& action);
  void SplitAgain(const RouterAction& action);
  void Launch(const RouterAction& action);
  uint32_t SendFlight(const RouterAction& action);
  void CountAttempt(BatchRecord& record, uint32_t part);
  void Cancel(uint32_t flight);
  void Drain(uint32_t flight);
  void EndBatch(const RouterAction& action);
  void GiveBack(BatchRecord& record);
  bool IsDropped(const Flight& flight) const;
  bool MayWrite(uint32_t flight);
  void CheckWrite(uint32_t flight);
  void Land(uint32_t flight, uint64_t first_share);
  void End(uint32_t flight, const absl::Status& status);
  void Forget(uint32_t flight);
  bool IsSentAgain(uint32_t flight);
  void Fail(Invariant invariant, absl::string_view what, const Flight* flight = nullptr);

  World& world_;
  const uint32_t worker_, place_, set_;
  Router router_;
  std::shared_ptr<MapOfSet> map_;
  std::vector<RouterAction> actions_, doing_;
  std::deque<BatchRecord> records_;
  std::vector<uint32_t> free_records_;
  absl::flat_hash_map<AttemptId, uint32_t> flights_;  // that have not ended
  std::vector<KnownStore> known_;                     // by StoreId
  SentAttempts sent_;
  MonotonicTime tick_at_ = MonotonicTime::Infinite();
  uint32_t open_ = 0;
  bool asks_for_map_ = false;
};

}  // namespace engram::sim
