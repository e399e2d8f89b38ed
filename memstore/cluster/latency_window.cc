#include "memstore/cluster/latency_window.h"

#include <algorithm>
#include <bit>

namespace engram {

// Below 16 us a bucket a microsecond; above, the four bits behind the first one.
uint32_t LatencyWindow::BucketOf(uint64_t microseconds) {
  if (microseconds < kSteps) return static_cast<uint32_t>(microseconds);
  const auto doubling = static_cast<uint32_t>(std::bit_width(microseconds)) - 5;
  const auto step = static_cast<uint32_t>(microseconds >> doubling) - kSteps;
  return std::min((doubling + 1) * kSteps + step, kBuckets - 1);
}

uint64_t LatencyWindow::EndOf(uint32_t bucket) {
  if (bucket < kSteps) return bucket + 1;
  const uint32_t doubling = bucket / kSteps - 1;
  return uint64_t{kSteps + bucket % kSteps + 1} << doubling;
}

void LatencyWindow::MoveTo(MonotonicTime now) {
  if (now < span_end_) return;
  // What is older than two spans is forgotten at once.
  if (now >= span_end_ + kSpan) histograms_[running_] = Histogram();
  running_ = 1 - running_;
  histograms_[running_] = Histogram();
  span_end_ = now + kSpan;
  p95_.reset();
}

void LatencyWindow::Add(absl::Duration took, MonotonicTime now) {
  MoveTo(now);
  const int64_t microseconds = std::max<int64_t>(absl::ToInt64Microseconds(took), 0);
  Histogram& histogram = histograms_[running_];
  ++histogram.counts[BucketOf(static_cast<uint64_t>(microseconds))];
  ++histogram.samples;
}

std::optional<absl::Duration> LatencyWindow::P95(MonotonicTime now) {
  MoveTo(now);
  const uint32_t samples = histograms_[0].samples + histograms_[1].samples;
  if (samples < kLeastSamples) return std::nullopt;
  // A few more samples change nothing that matters.
  if (p95_ && samples - samples_then_ < samples_then_ / kSteps) return p95_;
  uint64_t above = samples / 20;
  uint32_t bucket = kBuckets;
  while (bucket > 0) {
    --bucket;
    const uint64_t here = uint64_t{histograms_[0].counts[bucket]} + histograms_[1].counts[bucket];
    if (here > above) break;
    above -= here;
  }
  samples_then_ = samples;
  return p95_ = absl::Microseconds(EndOf(bucket));
}

}  // namespace engram
