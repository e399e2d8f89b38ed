// Metrics and snapshot as Prometheus reads them. Stateless, thread-safe. Cost: some hundred lines
// of text; nothing that serves lookups waits for it.
#pragma once

#include <string>

#include "server/metrics/metrics.h"
#include "server/metrics/snapshot.h"

namespace engram {

// The text format, version 0.0.4. All names begin engram_server_, but those that every program has
// in common (process_).
std::string ExposeMetrics(const MetricSums& sums, const ServerSnapshot& snapshot);

}  // namespace engram
