#include "server/admin/history.h"

#include <array>

#include "memstore/os/thread.h"

namespace engram {
namespace {

struct Sample {
  MonotonicTime when;
  uint64_t requests = 0;
  uint64_t rows = 0;
  std::array<uint64_t, LatencyHistogram::kBounds + 1> times{};
};

Sample Look(const Metrics& metrics, const Clock& clock) {
  const MetricSums sums = metrics.Sum();
  Sample sample{.when = clock.Now()};
  sample.requests = sums.ended;
  for (size_t path = 0; path < kPaths; ++path) {
    sample.rows += sums.rows[path];
    for (size_t i = 0; i < sample.times.size(); ++i) {
      sample.times[i] += sums.request_seconds[path].counts[i];
    }
  }
  return sample;
}

HistoryPoint Between(const Sample& now, const Sample& before) {
  const double seconds = absl::ToDoubleSeconds(now.when - before.when);
  auto times = now.times;
  for (size_t i = 0; i < times.size(); ++i) times[i] -= before.times[i];
  return {.requests_per_s = static_cast<double>(now.requests - before.requests) / seconds,
          .rows_per_s = static_cast<double>(now.rows - before.rows) / seconds,
          .p50_s = QuantileSeconds(times, 0.5),
          .p99_s = QuantileSeconds(times, 0.99)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<History>> History::Start(const Metrics* metrics, Clock* clock) {
  std::unique_ptr<History> history(new History(metrics, clock));
  absl::StatusOr<std::thread> thread =
      StartThread("engram-history", [raw = history.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  history->thread_ = *std::move(thread);
  return history;
}

History::~History() {
  {
    MutexLock lock(mutex_);
    ending_ = true;
  }
  changed_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

void History::Run() {
  Sample before = Look(*metrics_, *clock_);
  while (true) {
    const MonotonicTime next = before.when + kInterval;
    {
      MutexLock lock(mutex_);
      while (!ending_ && clock_->WaitUntil(changed_, mutex_, next)) {
      }
      if (ending_) return;
    }
    const Sample now = Look(*metrics_, *clock_);
    MutexLock lock(mutex_);
    points_.push_back(Between(now, before));
    if (points_.size() > kPoints) points_.pop_front();
    before = now;
  }
}

std::vector<HistoryPoint> History::Points() const {
  MutexLock lock(mutex_);
  return {points_.begin(), points_.end()};
}

}  // namespace engram
