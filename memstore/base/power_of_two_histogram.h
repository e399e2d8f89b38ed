// Counting by powers of two, and by status code: what the server's metrics and a client's have in
// common.
//
// A counter is whatever has Add(uint64_t) (one writer's, or an atomic that threads share); thread
// safety and cost are the counter's. Nothing allocates.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace engram {

inline constexpr size_t kStatusCodes = 17;  // absl::StatusCode, which are gRPC's

// Where a code is counted; a number that is no code of these, which a peer may send, is UNKNOWN.
inline size_t StatusCodeIndex(absl::StatusCode code) {
  const auto number = static_cast<size_t>(code);
  return number < kStatusCodes ? number : static_cast<size_t>(absl::StatusCode::kUnknown);
}

// Bounds are 1, 2^kShift, 2^(2 kShift), ..., kBounds of them; a value is counted at the first bound
// that is not below it, or above all of them. `total` is the sum of what was recorded, in whatever
// unit the caller adds.
template <typename Counter, size_t kBounds, int kShift = 1>
struct PowerOfTwoHistogram {
  static constexpr uint64_t Bound(size_t i) { return uint64_t{1} << (i * kShift); }

  static constexpr size_t IndexOf(uint64_t value) {
    const int bits = value <= 1 ? 0 : std::bit_width(value - 1);
    const size_t at = static_cast<size_t>(bits + kShift - 1) / kShift;
    return at < kBounds ? at : kBounds;
  }

  void Record(uint64_t value, uint64_t sum) {
    counts[IndexOf(value)].Add(1);
    total.Add(sum);
  }

  std::array<Counter, kBounds + 1> counts;  // the last: above all bounds
  Counter total;
};

// Of latencies: 1 us to 1.05 s, the sum in nanoseconds.
inline constexpr size_t kLatencyBounds = 21;

}  // namespace engram
