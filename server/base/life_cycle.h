// Where engramd is in its life: LOADING, SERVING, DRAINING, STOPPED, in this order and never back.
//
// Thread-safe. One engramd has one; it says so to systemd as well where that started it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace engram {

enum class LifeState : uint8_t { kLoading, kServing, kDraining, kStopped };

// "LOADING" and so on.
absl::string_view Name(LifeState state);

class LifeCycle {
 public:
  LifeState state() const { return state_.load(); }
  // Has no effect when it has come as far already.
  void Advance(LifeState state);
  // A line for `systemctl status`: what it is at.
  void SetStatusLine(const std::string& line) const;

 private:
  std::atomic<LifeState> state_{LifeState::kLoading};
};

}  // namespace engram
