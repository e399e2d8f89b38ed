#include "client/prometheus.h"

#include <limits>

#include "absl/strings/str_cat.h"

namespace engram {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Family(const char* name, MetricType type, const char* help) {
  MetricFamily family;
  family.name = absl::StrCat("engram_client_", name);
  family.type = type;
  family.help = help;
  return family;
}

}  // namespace

std::vector<MetricFamily> ClientCollectable::Collect() const {
  const std::shared_ptr<const Client> client = client_.lock();
  if (client == nullptr) return {};
  const ClientMetrics metrics = client->metrics();
  const ClientMetric::Label who{"client", name_};
  std::vector<MetricFamily> families;
  const auto count = [&](const char* name, const char* help, uint64_t value) {
    families.push_back(Family(name, MetricType::Counter, help));
    ClientMetric& metric = families.back().metric.emplace_back();
    metric.label = {who};
    metric.counter.value = static_cast<double>(value);
  };
  const auto by_code = [&](const char* name, const char* help, const auto& values) {
    families.push_back(Family(name, MetricType::Counter, help));
    for (size_t code = 0; code < values.size(); ++code) {
      if (values[code] == 0) continue;
      ClientMetric& metric = families.back().metric.emplace_back();
      metric.label = {who, {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}};
      metric.counter.value = static_cast<double>(values[code]);
    }
  };
  count("batches_total", "Batches that the transport took.", metrics.submitted);
  by_code("refused_total", "Batches that were refused at once, by code.", metrics.refused);
  by_code("waits_total", "Waits for whole batches, by what they ended with.", metrics.waited);
  count("rows_total", "Rows asked for.", metrics.rows);
  count("row_bytes_total", "Bytes of them.", metrics.row_bytes);
  count("planned_rows_total", "Rows of plans before they were made distinct.",
        metrics.planned_rows);
  count("distinct_rows_total", "And after.", metrics.distinct_rows);
  families.push_back(Family("wait_seconds", MetricType::Histogram,
                            "How long whoever waited for rows, of a layer or all, was held up."));
  ClientMetric& waits = families.back().metric.emplace_back();
  waits.label = {who};
  double bound = 1e-6;
  for (size_t i = 0; i < metrics.waits.size(); ++i, bound *= 2) {
    waits.histogram.sample_count += metrics.waits[i];
    waits.histogram.bucket.push_back(
        {waits.histogram.sample_count,
         i == ClientMetrics::kBounds ? std::numeric_limits<double>::infinity() : bound});
  }
  waits.histogram.sample_sum = static_cast<double>(metrics.wait_ns) * 1e-9;
  return families;
}

}  // namespace engram
