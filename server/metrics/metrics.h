// The counters of all threads of an engramd, added up when somebody looks.
//
// Thread-safe. A thread takes a block of its own (NewThread) before it serves and gives it back
// when it ends; what it counted stays in the sums.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "memstore/base/mutex.h"
#include "server/metrics/thread_metrics.h"

namespace engram {

template <size_t kBounds>
struct HistogramSum {
  std::array<uint64_t, kBounds + 1> counts{};
  uint64_t total = 0;
};

using LatencySum = HistogramSum<LatencyHistogram::kBounds>;

// The same by powers of two of a microsecond, as they are published.
HistogramSum<kLatencyBounds> ByPowersOfTwo(const LatencySum& sum);
// The time that `share` of what was counted took at most, in seconds: as if what is in a bucket
// were spread over it evenly. 0 where nothing was counted; the last bound where it is above all.
double QuantileSeconds(const std::array<uint64_t, LatencyHistogram::kBounds + 1>& counts,
                       double share);

struct MetricSums {
  uint64_t began = 0;
  uint64_t ended = 0;
  // Both are read while they are counted: never below 0.
  uint64_t InFlight() const { return began > ended ? began - ended : 0; }
  std::array<std::array<uint64_t, kStatusCodes>, kPaths> requests{};
  std::array<uint64_t, kPaths> rows{}, bytes{};
  std::array<LatencySum, kPaths> request_seconds{};
  std::array<LatencySum, kStages> stage_seconds{};
  HistogramSum<13> batch_rows{};
  uint64_t token_lookups = 0;
  uint64_t all_dead_lookups = 0;
  uint64_t tokens = 0;
  uint64_t dead_tokens = 0;
  std::array<uint64_t, kRejections> rejections{};

  void Add(const ThreadMetrics& thread);
};

class Metrics {
 public:
  // Given back with its last reference; Metrics outlives it.
  std::shared_ptr<ThreadMetrics> NewThread();
  MetricSums Sum() const;

 private:
  void Ended(ThreadMetrics* thread) ABSL_LOCKS_EXCLUDED(mutex_);

  mutable Mutex mutex_;
  std::vector<ThreadMetrics*> threads_ ABSL_GUARDED_BY(mutex_);
  MetricSums ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
