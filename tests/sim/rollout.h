// Publications of the name: each set is staged everywhere, then flipped store by store, and the one
// before is retired when no store hears a holder of it, or when the grace is over.
#pragma once

#include <cstdint>

#include "tests/sim/world.h"

namespace engram::sim {

class Rollout {
 public:
  explicit Rollout(World& world) : world_(world) {}

  void Begin();
  void Step();

 private:
  enum class Phase : uint8_t { kResting, kStaging, kFlipping, kRetiring };
  // Of all stores, one more each step where they are few; true: done.
  template <typename Do>
  bool Each(Do&& act);

  World& world_;
  Phase phase_ = Phase::kResting;
  uint32_t set_ = 1;   // that the name means, or comes to mean
  uint32_t next_ = 0;  // the store that is next
  MonotonicTime rests_until_, retires_at_;
};

}  // namespace engram::sim
