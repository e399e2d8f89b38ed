#include "client/prometheus.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/metric_families.h"

namespace engram {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

// Of ResendReason, in its order; the first one is no reason.
constexpr std::array<const char*, kResendReasons> kReasons = {
    "", "broken", "silent", "unavailable", "busy", "not_held", "damaged"};

// Of StoreSight, in its order.
constexpr std::array<const char*, kStoreSights> kSights = {"up",      "draining", "on_trial",
                                                           "ejected", "fenced",   "unheard"};
// Of one client: Prometheus keeps a series for each, and workers are many. Those that matter most
// come first: partitions with the fewest stores, and only stores that are not up.
constexpr size_t kMostPartitions = 64;
constexpr size_t kMostStores = 16;

// A client as it is while a page is made.
struct Seen {
  prometheus::ClientMetric::Label label;
  prometheus::ClientMetric::Label name;  // of its table set
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
  // Of clients of a cluster; where there are none there is no such family.
  void CountRouting(const char* name, const char* help, uint64_t RouterCounters::*value) {
    if (!AnyRoutes()) return;
    MetricFamily& family = families_.Begin(name, MetricType::Counter, help);
    for (const Seen& client : clients_) {
      if (!client.metrics.routing) continue;
      MetricFamilies::AddCounter(family, {client.label, client.name},
                                 static_cast<double>((*client.metrics.routing).*value));
    }
  }
  void CountByReason(const char* name, const char* help,
                     std::array<uint64_t, kResendReasons> RouterCounters::*values) {
    if (!AnyRoutes()) return;
    MetricFamily& family = families_.Begin(name, MetricType::Counter, help);
    for (const Seen& client : clients_) {
      if (!client.metrics.routing) continue;
      for (size_t reason = 1; reason < kResendReasons; ++reason) {
        MetricFamilies::AddCounter(
            family, {client.label, client.name, {"reason", kReasons[reason]}},
            static_cast<double>(((*client.metrics.routing).*values)[reason]));
      }
    }
  }
  // add(family, labels of the client, its cluster), for each that has one.
  template <typename Add>
  void GaugeCluster(const char* name, const char* help, Add add) {
    if (!AnyRoutes()) return;
    MetricFamily& family = families_.Begin(name, MetricType::Gauge, help);
    for (const Seen& client : clients_) {
      if (client.metrics.cluster) {
        add(family, MetricFamilies::Labels{client.label, client.name}, *client.metrics.cluster);
      }
    }
  }
  std::vector<MetricFamily> Take() { return families_.Take(); }

 private:
  bool AnyRoutes() const {
    return std::any_of(clients_.begin(), clients_.end(),
                       [](const Seen& client) { return client.metrics.routing.has_value(); });
  }

  const std::vector<Seen>& clients_;
  MetricFamilies families_{"engram_client_"};
};

void AddGauge(MetricFamily& family, MetricFamilies::Labels labels,
              prometheus::ClientMetric::Label label, double value) {
  labels.push_back(std::move(label));
  MetricFamilies::AddGauge(family, labels, value);
}

void AddPartitions(MetricFamily& family, const MetricFamilies::Labels& labels,
                   const ClusterView& cluster) {
  const std::vector<uint32_t>& stores = cluster.up_stores_of_piece;
  std::vector<size_t> pieces(stores.size());
  std::iota(pieces.begin(), pieces.end(), 0);
  std::stable_sort(pieces.begin(), pieces.end(),
                   [&](size_t a, size_t b) { return stores[a] < stores[b]; });
  pieces.resize(std::min(pieces.size(), kMostPartitions));
  for (const size_t piece : pieces) {
    AddGauge(family, labels, {"partition", absl::StrCat(piece)}, stores[piece]);
  }
}

void AddTrouble(MetricFamily& family, const MetricFamilies::Labels& labels,
                const ClusterView& cluster) {
  size_t shown = 0;
  for (const ClusterView::Store& store : cluster.stores) {
    if (store.sight == StoreSight::kUp || shown == kMostStores) continue;
    ++shown;
    MetricFamilies::Labels of_store = labels;
    of_store.push_back({"store", store.address});
    AddGauge(family, std::move(of_store), {"standing", kSights[static_cast<size_t>(store.sight)]},
             1);
  }
}

void ShowCluster(Page& page) {
  page.GaugeCluster("partitions", "Partitions that the table set is cut into, by what stores hold.",
                    [](MetricFamily& family, const auto& labels, const ClusterView& cluster) {
                      MetricFamilies::AddGauge(
                          family, labels, static_cast<double>(cluster.up_stores_of_piece.size()));
                    });
  page.GaugeCluster("partition_up_stores",
                    "Stores that are up and hold a partition; of many, those with the fewest.",
                    AddPartitions);
  page.GaugeCluster("stores", "Stores of the cluster, by how this client has them.",
                    [](MetricFamily& family, const auto& labels, const ClusterView& cluster) {
                      std::array<uint64_t, kStoreSights> counts{};
                      for (const auto& store : cluster.stores) {
                        ++counts[static_cast<size_t>(store.sight)];
                      }
                      for (size_t sight = 0; sight < kStoreSights; ++sight) {
                        AddGauge(family, labels, {"standing", kSights[sight]},
                                 static_cast<double>(counts[sight]));
                      }
                    });
  page.GaugeCluster("store_trouble", "1 for each store that is not up; 16 at most.", AddTrouble);
  page.GaugeCluster("finds_addresses",
                    "1 while what says where stores are (etcd, DNS) answers; a list always does.",
                    [](MetricFamily& family, const auto& labels, const ClusterView& cluster) {
                      MetricFamilies::AddGauge(family, labels, cluster.finds_addresses ? 1 : 0);
                    });
}

void ShowRouting(Page& page) {
  page.CountRouting("part_first_attempts_total",
                    "Parts of batches, each at a store's, first asked.",
                    &RouterCounters::first_attempts);
  page.CountRouting("part_free_resends_total", "Parts asked again since their connection broke.",
                    &RouterCounters::free_resends);
  page.CountByReason("part_resends_total", "Parts asked again out of the retry budget, by reason.",
                     &RouterCounters::resends);
  page.CountByReason("part_resends_refused_total",
                     "Parts not asked again since the retry budget was spent, by reason.",
                     &RouterCounters::refusals);
  page.CountRouting("hedges_total", "Parts asked of a second store while a first one took long.",
                    &RouterCounters::hedges);
  page.CountRouting("hedges_won_total", "Of these, those that the second store answered first.",
                    &RouterCounters::hedges_won);
  page.CountRouting("store_ejections_total", "Stores left alone for a while since they failed.",
                    &RouterCounters::ejections);
  page.CountRouting("store_trials_total", "Stores asked again after that.",
                    &RouterCounters::trials);
  page.CountRouting("store_fences_total", "Stores asked no more since their rows are damaged.",
                    &RouterCounters::fences);
  page.CountRouting("store_strangers_total",
                    "Tries to hear a store that ended with a certificate or a token that one side "
                    "does not take.",
                    &RouterCounters::strangers);
  page.CountRouting("stores_left_out_total",
                    "Words of stores that were left out, for they cannot be true.",
                    &RouterCounters::left_out);
  page.CountRouting("store_lies_total",
                    "Partitions that a store said it holds, refused, and is asked for no more.",
                    &RouterCounters::lies);
  page.CountRouting("layers_dropped_total", "Layers of parts dropped since their store was fenced.",
                    &RouterCounters::layers_dropped);
  page.CountRouting("cluster_maps_total", "Maps made of what the cluster's stores hold.",
                    &RouterCounters::maps);
  page.CountRouting("batch_deadlines_total", "Batches that their deadline ended.",
                    &RouterCounters::deadlines);
}

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
        seen.push_back(
            {{"client", named.name}, {"name", client->table_set().name}, client->metrics()});
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
  ShowRouting(page);
  ShowCluster(page);
  return page.Take();
}

}  // namespace engram
