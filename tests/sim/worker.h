// A worker: a client of the cluster with its links, what it discovered and heard, and a session for
// each set that it uses.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/sim/session.h"
#include "tests/sim/world.h"

namespace engram::sim {

class Worker {
 public:
  // `share`: of the average rate.
  Worker(World& world, uint32_t place, double share);

  void Begin();
  void Submit();
  void Discover();
  void Subscribe(uint32_t store, uint32_t tries);
  void Hear(uint32_t store, uint32_t life);
  void UseMap();
  void AskForMap();
  Session& session(uint32_t place) { return *sessions_[place]; }
  const std::vector<std::unique_ptr<Session>>& sessions() const { return sessions_; }
  bool is_idle() const;

  // Its links.
  MonotonicTime ArrivalOver(uint32_t store);
  uint32_t ConnectionTo(uint32_t store) const { return peers_[store].connection; }
  void CloseConnection(uint32_t store) { ++peers_[store].connection; }
  void TellBroken(uint32_t store);
  // The other end closed it: what is under way is lost, and the worker hears of it in a moment.
  void BreakLater(uint32_t store);
  void Break(uint32_t store, uint32_t connection);
  void Darken(uint32_t store, MonotonicTime until);
  // The stream of holdings ends, and with it what the store knows of this worker.
  void LoseLease(uint32_t store);
  void SetBurst(double times) { burst_ = times; }

 private:
  struct Peer {
    MonotonicTime dark_until;
    uint32_t connection = 0;
    bool is_discovered = false;
    bool is_subscribing = false;
    bool is_subscribed = false;
    std::shared_ptr<const Word> heard;
  };

  bool ListensTo(uint32_t store) const;
  void ScheduleMap(absl::Duration in);
  void SayLease();
  Session* Current() { return sessions_.empty() ? nullptr : sessions_.back().get(); }

  World& world_;
  const uint32_t place_;
  const double share_;
  double burst_ = 1;
  std::vector<Peer> peers_;
  std::vector<std::unique_ptr<Session>> sessions_;
  uint32_t lease_ = 0;  // sets, as bits
  MonotonicTime map_due_at_ = MonotonicTime::Infinite();
};

}  // namespace engram::sim
