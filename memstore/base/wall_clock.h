// The wall clock, which may be set at any moment: for people's eyes alone (pages, metrics). Waits,
// deadlines and spans go by a Clock (clock.h). Thread-safe.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace engram {

inline absl::Time WallNow() { return absl::Now(); }

}  // namespace engram
