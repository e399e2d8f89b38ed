#include "server/metrics/metrics.h"

#include <algorithm>

#include "memstore/base/check.h"

namespace engram {
namespace {

template <size_t kSize>
void AddAll(const std::array<SingleWriterCounter, kSize>& from, std::array<uint64_t, kSize>& to) {
  for (size_t i = 0; i < kSize; ++i) to[i] += from[i].Read();
}

template <typename Histogram, typename Sum>
void AddHistogram(const Histogram& from, Sum& to) {
  AddAll(from.counts, to.counts);
  to.total += from.total.Read();
}

}  // namespace

HistogramSum<kLatencyBounds> ByPowersOfTwo(const LatencySum& sum) {
  constexpr size_t kParts = LatencyHistogram::kParts;
  HistogramSum<kLatencyBounds> coarse;
  coarse.total = sum.total;
  for (size_t i = 0; i < sum.counts.size(); ++i) {
    coarse.counts[(i + kParts - 1) / kParts] += sum.counts[i];
  }
  return coarse;
}

double QuantileSeconds(const std::array<uint64_t, LatencyHistogram::kBounds + 1>& counts,
                       double share) {
  uint64_t all = 0;
  for (const uint64_t count : counts) all += count;
  if (all == 0) return 0;
  const double wanted = share * static_cast<double>(all);
  double seen = 0;
  for (size_t i = 0; i < LatencyHistogram::kBounds; ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && seen + here >= wanted) {
      const double below = i == 0 ? 0 : LatencyHistogram::BoundSeconds(i - 1);
      return below + (LatencyHistogram::BoundSeconds(i) - below) * (wanted - seen) / here;
    }
    seen += here;
  }
  return LatencyHistogram::BoundSeconds(LatencyHistogram::kBounds - 1);
}

void MetricSums::Add(const ThreadMetrics& thread) {
  // Ends first: a request that is counted as ended is counted as begun as well.
  ended += thread.ended.Read();
  began += thread.began.Read();
  for (size_t i = 0; i < kPaths; ++i) {
    AddAll(thread.requests[i], requests[i]);
    AddHistogram(thread.request_seconds[i], request_seconds[i]);
  }
  AddAll(thread.rows, rows);
  AddAll(thread.bytes, bytes);
  for (size_t i = 0; i < kStages; ++i) AddHistogram(thread.stage_seconds[i], stage_seconds[i]);
  AddHistogram(thread.batch_rows, batch_rows);
  token_lookups += thread.token_lookups.Read();
  all_dead_lookups += thread.all_dead_lookups.Read();
  tokens += thread.tokens.Read();
  dead_tokens += thread.dead_tokens.Read();
  AddAll(thread.rejections, rejections);
}

std::shared_ptr<ThreadMetrics> Metrics::NewThread() {
  std::shared_ptr<ThreadMetrics> thread(new ThreadMetrics,
                                        [this](ThreadMetrics* gone) { Ended(gone); });
  MutexLock lock(mutex_);
  threads_.push_back(thread.get());
  return thread;
}

void Metrics::Ended(ThreadMetrics* thread) {
  MutexLock lock(mutex_);
  ended_.Add(*thread);
  const auto at = std::find(threads_.begin(), threads_.end(), thread);
  ENGRAM_CHECK(at != threads_.end(), "a thread's counters are given back once");
  threads_.erase(at);
  delete thread;
}

MetricSums Metrics::Sum() const {
  MutexLock lock(mutex_);
  MetricSums sums = ended_;
  for (const ThreadMetrics* thread : threads_) sums.Add(*thread);
  return sums;
}

}  // namespace engram
