// A store as a worker meets it: it holds a partition of some table sets, answers within engramd's
// limits (server/base/limits.h), says what it holds, and goes wrong as it is told.
//
// Two threads gather; what waits for them is in one queue. A reply holds a slab until its worker
// has it. Each life of a store is an instance of its own at the same address.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "memstore/cluster/store_state.h"
#include "server/base/limits.h"
#include "tests/sim/world.h"

namespace engram::sim {

class FakeStore {
 public:
  FakeStore(World& world, uint32_t place);

  uint32_t place() const { return place_; }
  uint32_t life() const { return life_; }
  bool is_up() const { return is_up_; }
  bool is_paused() const { return world_.now < paused_until_; }
  bool is_quiet() const { return is_quiet_; }  // down, and nobody is told
  bool by_device() const { return by_device_; }
  bool is_well() const;
  const std::shared_ptr<const Word>& word() const { return word_; }

  // A request, its rows, a cancel.
  void Arrive(uint32_t flight);
  void Answer(uint32_t flight);
  void HearCancel(uint32_t flight);
  void TakeSlabBack(Flight& flight);

  // Holdings, and the lease that comes with it. False: there is no place for one more.
  bool Subscribe(uint32_t worker);
  void Unsubscribe(uint32_t worker);
  void HearLease(uint32_t worker, uint32_t sets);
  bool HearsHolderOf(uint32_t set) const;

  // Table sets. False: it is down or paused, ask again.
  bool Stage(uint32_t set);
  bool Publish(uint32_t set);
  bool Retire(uint32_t set);

  // What goes wrong. `quiet`: as where the machine lost its power.
  void Crash(bool quiet);
  void Start();
  void PauseUntil(MonotonicTime until) { paused_until_ = until; }
  void Resume() { StartNext(); }
  void SetSlowness(double times) { slowness_ = times; }
  void SetDamaged() { is_damaged_ = true; }
  void SetLying() { lies_ = true; }
  void AnnounceEnd();
  void RefuseNew() { refuses_new_ = true; }
  bool is_empty() const { return in_store_ == 0; }

 private:
  static constexpr uint32_t kThreads = 2;
  struct Held {
    uint32_t set = 0;
    HoldingState state = HoldingState::kStaged;
  };
  struct OfWorker {  // what one connection holds
    uint32_t calls = 0;
    uint64_t id_bytes = 0;
  };

  Held* Find(uint32_t set);
  bool IsTurnedAway(const Flight& flight);
  absl::StatusCode CodeFor(const Flight& flight);
  void Refuse(uint32_t flight, absl::StatusCode code);
  void StartNext();
  void Leave(Flight& flight);
  void Say();
  void TellBroken();
  MonotonicTime Back(const Flight& flight);

  World& world_;
  const uint32_t place_;
  const bool by_device_;
  uint32_t life_ = 0;
  bool is_up_ = false;
  bool is_quiet_ = false;
  bool is_damaged_ = false;
  bool lies_ = false;
  bool is_draining_ = false;
  bool refuses_new_ = false;
  double slowness_ = 1;
  MonotonicTime paused_until_;
  std::vector<Held> sets_;
  std::vector<Held> recorded_;  // and loaded again by the next life
  std::shared_ptr<const Word> word_;
  // Workers with a stream of holdings, and the sets that each uses, as bits: its lease.
  std::map<uint32_t, uint32_t> subscribers_;
  std::deque<uint32_t> queue_;
  absl::flat_hash_map<uint32_t, OfWorker> of_worker_;
  uint32_t busy_ = 0;
  uint32_t in_store_ = 0;
  uint32_t slabs_ = kSlabs;
  uint64_t id_bytes_ = 0;
};

}  // namespace engram::sim
