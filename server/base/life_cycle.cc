#include "server/base/life_cycle.h"

#include <systemd/sd-daemon.h>

#include "absl/strings/str_cat.h"

namespace engram {

absl::string_view Name(LifeState state) {
  switch (state) {
    case LifeState::kLoading:
      return "LOADING";
    case LifeState::kServing:
      return "SERVING";
    case LifeState::kDraining:
      return "DRAINING";
    case LifeState::kStopped:
      return "STOPPED";
  }
  return "?";
}

void LifeCycle::Advance(LifeState state) {
  LifeState now = state_.load();
  while (now < state && !state_.compare_exchange_weak(now, state)) {
  }
  if (now >= state) return;
  // Nothing happens where nobody asked for it ($NOTIFY_SOCKET).
  if (state == LifeState::kServing) sd_notify(0, "READY=1\nSTATUS=serving");
  if (state == LifeState::kDraining) sd_notify(0, "STOPPING=1\nSTATUS=draining");
}

void LifeCycle::SetStatusLine(const std::string& line) const {
  sd_notify(0, absl::StrCat("STATUS=", line).c_str());
}

}  // namespace engram
