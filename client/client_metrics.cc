#include "client/client_metrics.h"

namespace engram {
namespace {

template <size_t kSize>
void Copy(const std::array<std::atomic<uint64_t>, kSize>& from, std::array<uint64_t, kSize>& to) {
  for (size_t i = 0; i < kSize; ++i) to[i] = from[i].load(std::memory_order_relaxed);
}

}  // namespace

ClientMetrics ClientCounters::Read() const {
  ClientMetrics metrics{.submitted = submitted_.load(),
                        .refused = {},
                        .waited = {},
                        .rows = rows_.load(),
                        .row_bytes = row_bytes_.load(),
                        .planned_rows = planned_rows_.load(),
                        .distinct_rows = distinct_rows_.load(),
                        .waits = {},
                        .wait_ns = wait_ns_.load()};
  Copy(refused_, metrics.refused);
  Copy(waited_, metrics.waited);
  Copy(waits_, metrics.waits);
  return metrics;
}

}  // namespace engram
