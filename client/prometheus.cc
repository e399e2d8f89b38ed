#include "client/prometheus.h"

#include <utility>

#include "absl/status/status.h"
#include "memstore/base/metric_families.h"

namespace engram {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// A client as it is while a page is made.
struct Seen {
  prometheus::ClientMetric::Label label;
  ClientMetrics metrics;
};

class Page {
 public:
  explicit Page(const std::vector<Seen>& clients) : clients_(clients) {}

  void Count(const char* name, const char* help, uint64_t ClientMetrics::*value) {
    MetricFamily& family = families_.Begin(name, MetricType::Counter, help);
    for (const Seen& client : clients_) {
      MetricFamilies::AddCounter(family, {client.label},
                                 static_cast<double>(client.metrics.*value));
    }
  }
  void CountByCode(const char* name, const char* help,
                   std::array<uint64_t, ClientMetrics::kCodes> ClientMetrics::*values) {
    MetricFamily& family = families_.Begin(name, MetricType::Counter, help);
    for (const Seen& client : clients_) {
      for (size_t code = 0; code < ClientMetrics::kCodes; ++code) {
        const uint64_t value = (client.metrics.*values)[code];
        if (value == 0) continue;
        MetricFamilies::AddCounter(
            family,
            {client.label, {"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(code))}},
            static_cast<double>(value));
      }
    }
  }
  void Waits(const char* name, const char* help) {
    MetricFamily& family = families_.Begin(name, MetricType::Histogram, help);
    for (const Seen& client : clients_) {
      MetricFamilies::AddHistogram(family, {client.label}, client.metrics.waits, 1e-6, 2,
                                   static_cast<double>(client.metrics.wait_ns) * 1e-9);
    }
  }
  std::vector<MetricFamily> Take() { return families_.Take(); }

 private:
  const std::vector<Seen>& clients_;
  MetricFamilies families_{"engram_client_"};
};

}  // namespace

void ClientCollectable::Add(std::weak_ptr<const Client> client, std::string name) {
  MutexLock lock(mutex_);
  clients_.push_back({std::move(client), std::move(name)});
}

std::vector<MetricFamily> ClientCollectable::Collect() const {
  std::vector<Seen> seen;
  {
    MutexLock lock(mutex_);
    for (const Named& named : clients_) {
      if (const std::shared_ptr<const Client> client = named.client.lock()) {
        seen.push_back({{"client", named.name}, client->metrics()});
      }
    }
  }
  if (seen.empty()) return {};
  Page page(seen);
  page.Count("batches_total", "Batches that the transport took.", &ClientMetrics::submitted);
  page.CountByCode("refused_total", "Batches that were refused at once, by code.",
                   &ClientMetrics::refused);
  page.CountByCode("waits_total", "Waits for whole batches, by what they ended with.",
                   &ClientMetrics::waited);
  page.Count("rows_total", "Rows asked for.", &ClientMetrics::rows);
  page.Count("row_bytes_total", "Bytes of them.", &ClientMetrics::row_bytes);
  page.Count("planned_rows_total", "Rows of plans before they were made distinct.",
             &ClientMetrics::planned_rows);
  page.Count("distinct_rows_total", "And after.", &ClientMetrics::distinct_rows);
  page.Waits("wait_seconds", "How long whoever waited for rows, of a layer or all, was held up.");
  return page.Take();
}

}  // namespace engram
