// The last minutes of an engramd's lookups, for the status page's charts.
//
// One thread ("engram-history") looks at the counters every kInterval and keeps a bounded number
// of points. Thread-safe.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "server/metrics/metrics.h"

namespace engram {

// Of the time since the point before.
struct HistoryPoint {
  double requests_per_s = 0;
  double rows_per_s = 0;
  // Of the answers' times, seconds, interpolated (QuantileSeconds); 0 where there was none.
  double p50_s = 0;
  double p99_s = 0;
};

class History {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(5);
  static constexpr size_t kPoints = 120;  // ten minutes

  // `metrics` and `clock` outlive it. RESOURCE_EXHAUSTED when the thread can't be started.
  static absl::StatusOr<std::unique_ptr<History>> Start(const Metrics* metrics, Clock* clock);
  ~History();
  // Oldest first.
  std::vector<HistoryPoint> Points() const;

 private:
  History(const Metrics* metrics, Clock* clock) : metrics_(metrics), clock_(clock) {}
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  const Metrics* const metrics_;
  Clock* const clock_;
  mutable Mutex mutex_;
  CondVar changed_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<HistoryPoint> points_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace engram
