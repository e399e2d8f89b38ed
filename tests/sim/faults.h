// What goes wrong in a run, and when: drawn from its seed.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/sim/world.h"

namespace engram::sim {

class Faults {
 public:
  explicit Faults(World& world);

  void Begin();
  // One more fault.
  void Next();
  // What began ends, or goes on to its next step.
  void End(FaultKind kind, uint32_t store, uint32_t step);
  bool is_over() const { return under_way_ == 0; }

 private:
  uint32_t DrawStore();
  void Start(FaultKind kind, uint32_t store);
  void Later(absl::Duration in, FaultKind kind, uint32_t store, uint32_t step = 0);
  void Plan();

  World& world_;
  std::vector<FaultKind> kinds_;
  uint32_t under_way_ = 0;
};

}  // namespace engram::sim
