// A client's metrics for Prometheus: register one with the exposer that the worker has.
//
//   auto collectable = std::make_shared<engram::ClientCollectable>(client, "prefill");
//   exposer.RegisterCollectable(collectable);  // which keeps a weak reference
//
// A target of its own (//client:prometheus): the SDK itself needs no prometheus-cpp. Thread-safe.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"

namespace engram {

class ClientCollectable final : public prometheus::Collectable {
 public:
  // `name` is the label `client` of every metric: unique in the process. Once the client is gone
  // there are none.
  ClientCollectable(std::weak_ptr<const Client> client, std::string name)
      : client_(std::move(client)), name_(std::move(name)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::weak_ptr<const Client> client_;
  const std::string name_;
};

}  // namespace engram
