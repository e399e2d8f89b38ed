#include "server/admin/history.h"

#include <array>

#include "memstore/os/thread.h"

namespace engram {
namespace {

struct Sample {
  std::chrono::steady_clock::time_point when;
  uint64_t requests = 0;
  uint64_t rows = 0;
  std::array<uint64_t, 22> times{};
};

Sample Look(const Metrics& metrics) {
  const MetricSums sums = metrics.Sum();
  Sample sample{.when = std::chrono::steady_clock::now()};
  sample.requests = sums.ended;
  for (size_t path = 0; path < kPaths; ++path) {
    sample.rows += sums.rows[path];
    for (size_t i = 0; i < sample.times.size(); ++i) {
      sample.times[i] += sums.request_seconds[path].counts[i];
    }
  }
  return sample;
}

double Quantile(const Sample& now, const Sample& before, double share) {
  uint64_t all = 0;
  for (size_t i = 0; i < now.times.size(); ++i) all += now.times[i] - before.times[i];
  if (all == 0) return 0;
  uint64_t seen = 0;
  for (size_t i = 0; i < now.times.size(); ++i) {
    seen += now.times[i] - before.times[i];
    if (static_cast<double>(seen) >= share * static_cast<double>(all)) {
      return static_cast<double>(LatencyHistogram::Bound(i)) * 1e-6;
    }
  }
  return 0;
}

HistoryPoint Between(const Sample& now, const Sample& before) {
  const double seconds = std::chrono::duration<double>(now.when - before.when).count();
  return {.requests_per_s = static_cast<double>(now.requests - before.requests) / seconds,
          .rows_per_s = static_cast<double>(now.rows - before.rows) / seconds,
          .p50_s = Quantile(now, before, 0.5),
          .p99_s = Quantile(now, before, 0.99)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<History>> History::Start(const Metrics* metrics,
                                                        std::chrono::milliseconds interval) {
  std::unique_ptr<History> history(new History(metrics, interval));
  absl::StatusOr<std::thread> thread =
      StartThread("engram-history", [raw = history.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  history->thread_ = *std::move(thread);
  return history;
}

History::~History() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void History::Run() {
  Sample before = Look(*metrics_);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, interval_, [this] { return ending_; })) {
    const Sample now = Look(*metrics_);
    points_.push_back(Between(now, before));
    if (points_.size() > kPoints) points_.pop_front();
    before = now;
  }
}

std::vector<HistoryPoint> History::Points() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {points_.begin(), points_.end()};
}

}  // namespace engram
