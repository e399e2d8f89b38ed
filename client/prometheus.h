// A process' clients' metrics for Prometheus: one collectable for all of them, registered with the
// exposer that the worker has.
//
//   auto clients = std::make_shared<engram::ClientCollectable>();
//   clients->Add(client, "prefill");
//   exposer.RegisterCollectable(clients);  // which keeps a weak reference
//
// A target of its own (//client:prometheus): the SDK itself needs no prometheus-cpp. Thread-safe.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "memstore/base/mutex.h"

namespace engram {

class ClientCollectable final : public prometheus::Collectable {
 public:
  // `name` is the label `client` of its metrics: unique in the process. Once the client is gone it
  // has none.
  void Add(std::weak_ptr<const Client> client, std::string name);
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct Named {
    std::weak_ptr<const Client> client;
    std::string name;
  };
  mutable Mutex mutex_;
  std::vector<Named> clients_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
