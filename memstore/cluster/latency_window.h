// How long parts of one size took of late: the 95th percentile, after which a hedge is sent.
//
// A histogram of 16 buckets a doubling, so that what it says is at most 1/16 too high, over the
// span before and the one that runs. By the times that are passed in. A value of fixed size
// (3.5 KiB); belongs to one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "memstore/base/clock.h"

namespace engram {

class LatencyWindow {
 public:
  // Of fewer samples the 95th of a hundred is one value or two.
  static constexpr uint32_t kLeastSamples = 100;
  // After two of them what was measured is forgotten: a store's load changes in seconds.
  static constexpr absl::Duration kSpan = absl::Seconds(5);

  void Add(absl::Duration took, MonotonicTime now);
  // Nothing: too few samples.
  std::optional<absl::Duration> P95(MonotonicTime now);

 private:
  // From a microsecond to 2^26 of them, a minute, beyond any deadline of a lookup.
  static constexpr uint32_t kDoublings = 26;
  static constexpr uint32_t kSteps = 16;
  static constexpr uint32_t kBuckets = (kDoublings + 1) * kSteps;
  struct Histogram {
    std::array<uint32_t, kBuckets> counts{};
    uint32_t samples = 0;
  };
  static uint32_t BucketOf(uint64_t microseconds);
  static uint64_t EndOf(uint32_t bucket);  // in microseconds
  void MoveTo(MonotonicTime now);

  std::array<Histogram, 2> histograms_{};
  uint32_t running_ = 0;
  MonotonicTime span_end_;
  std::optional<absl::Duration> p95_;  // as it was worked out last
  uint32_t samples_then_ = 0;
};

}  // namespace engram
