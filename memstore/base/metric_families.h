// Families of metrics for prometheus-cpp, built one after the other: what engramd's page and a
// worker's clients have in common. A target of its own, for who links prometheus-cpp.
//
// Values are doubles, as Prometheus has them: seconds, bytes, counts. Thread-compatible. Cost: for
// scrapes, not for hot paths.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <deque>
#include <iterator>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace engram {

class MetricFamilies {
 public:
  using Family = prometheus::MetricFamily;
  using Type = prometheus::MetricType;
  using Labels = std::vector<prometheus::ClientMetric::Label>;

  // Of every name: "engram_server_".
  explicit MetricFamilies(std::string prefix) : prefix_(std::move(prefix)) {}

  // The reference is good until Take.
  Family& Begin(const char* name, Type type, const char* help) {
    Family& family = families_.emplace_back();
    family.name = absl::StrCat(prefix_, name);
    family.type = type;
    family.help = help;
    return family;
  }
  static void AddGauge(Family& family, Labels labels, double value) {
    Add(family, std::move(labels)).gauge.value = value;
  }
  static void AddCounter(Family& family, Labels labels, double value) {
    Add(family, std::move(labels)).counter.value = value;
  }
  // `counts`: of each bucket alone. The first one's bound is `unit`, each further one's is `base`
  // times as much, and the last has none.
  static void AddHistogram(Family& family, Labels labels, absl::Span<const uint64_t> counts,
                           double unit, double base, double sum) {
    prometheus::ClientMetric::Histogram& histogram = Add(family, std::move(labels)).histogram;
    double bound = unit;
    for (size_t i = 0; i < counts.size(); ++i, bound *= base) {
      histogram.sample_count += counts[i];
      histogram.bucket.push_back(
          {histogram.sample_count,
           i + 1 == counts.size() ? std::numeric_limits<double>::infinity() : bound});
    }
    histogram.sample_sum = sum;
  }
  std::vector<Family> Take() {
    return {std::make_move_iterator(families_.begin()), std::make_move_iterator(families_.end())};
  }

 private:
  static prometheus::ClientMetric& Add(Family& family, Labels labels) {
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

  const std::string prefix_;
  std::deque<Family> families_;  // references to them stay
};

}  // namespace engram
