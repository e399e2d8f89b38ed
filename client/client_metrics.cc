#include "client/client_metrics.h"

namespace engram {

ClientMetrics ClientCounters::Read() const {
  ClientMetrics metrics{.submitted = submitted_.Read(),
                        .refused = {},
                        .waited = {},
                        .rows = rows_.Read(),
                        .row_bytes = row_bytes_.Read(),
                        .planned_rows = planned_rows_.Read(),
                        .distinct_rows = distinct_rows_.Read(),
                        .waits = {},
                        .wait_ns = waits_.total.Read(),
                        .routing = std::nullopt,
                        .cluster = std::nullopt};
  Copy(refused_, metrics.refused);
  Copy(waited_, metrics.waited);
  Copy(waits_.counts, metrics.waits);
  return metrics;
}

}  // namespace engram
