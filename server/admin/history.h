// The last minutes of an engramd's lookups, for the status page's charts.
//
// One thread ("engram-history") looks at the counters every few seconds and keeps a bounded number
// of points. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/metrics/metrics.h"

namespace engram {

// Of the time since the point before.
struct HistoryPoint {
  double requests_per_s = 0;
  double rows_per_s = 0;
  // Of the answers' times, seconds; 0 where there was none. The bucket's upper bound.
  double p50_s = 0;
  double p99_s = 0;
};

class History {
 public:
  static constexpr std::chrono::seconds kInterval{5};
  static constexpr size_t kPoints = 120;  // ten minutes

  // `metrics` outlives it. RESOURCE_EXHAUSTED when the thread can't be started.
  static absl::StatusOr<std::unique_ptr<History>> Start(
      const Metrics* metrics, std::chrono::milliseconds interval = kInterval);
  ~History();
  // Oldest first.
  std::vector<HistoryPoint> Points() const;

 private:
  History(const Metrics* metrics, std::chrono::milliseconds interval)
      : metrics_(metrics), interval_(interval) {}
  void Run();

  const Metrics* const metrics_;
  const std::chrono::milliseconds interval_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool ending_ = false;              // guarded by mutex_
  std::deque<HistoryPoint> points_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace engram
