// What a client counts of its own lookups.
//
// Counters are relaxed atomics that the threads of one client share: a few nanoseconds a batch.
// ClientMetrics is a snapshot, a value; client/prometheus.h shows it to Prometheus.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "memstore/base/power_of_two_histogram.h"
#include "memstore/cluster/router_types.h"

namespace engram {

struct ClientMetrics {
  static constexpr size_t kCodes = kStatusCodes;
  static constexpr size_t kBounds = kLatencyBounds;

  uint64_t submitted = 0;                     // batches that the transport took
  std::array<uint64_t, kCodes> refused{};     // by Submit, Prefetch or SubmitTokens, by code
  std::array<uint64_t, kCodes> waited{};      // what Wait ended with, by code
  uint64_t rows = 0;                          // asked for in batches that were taken
  uint64_t row_bytes = 0;                     // of them
  uint64_t planned_rows = 0;                  // that MakeDistinct was given
  uint64_t distinct_rows = 0;                 // that it left
  std::array<uint64_t, kBounds + 1> waits{};  // Wait's and WaitLayer's, by their bound
  uint64_t wait_ns = 0;
  std::optional<RouterCounters> routing;  // of a cluster's parts; none: one owner has all rows
  std::optional<ClusterView> cluster;     // as it is now; likewise
};

class ClientCounters {
 public:
  void Submitted(uint64_t rows, uint64_t bytes) {
    submitted_.Add(1);
    rows_.Add(rows);
    row_bytes_.Add(bytes);
  }
  void Refused(absl::StatusCode code) { refused_[StatusCodeIndex(code)].Add(1); }
  void Waited(absl::StatusCode code) { waited_[StatusCodeIndex(code)].Add(1); }
  void RecordLatency(absl::Duration time) {
    const auto ns = static_cast<uint64_t>(absl::ToInt64Nanoseconds(time));
    waits_.Record((ns + 999) / 1000, ns);
  }
  void MadeDistinct(uint64_t planned, uint64_t distinct) {
    planned_rows_.Add(planned);
    distinct_rows_.Add(distinct);
  }
  ClientMetrics Read() const;

 private:
  struct Counter {
    void Add(uint64_t more) { value.fetch_add(more, std::memory_order_relaxed); }
    uint64_t Read() const { return value.load(std::memory_order_relaxed); }
    std::atomic<uint64_t> value{0};
  };
  template <size_t kSize>
  static void Copy(const std::array<Counter, kSize>& from, std::array<uint64_t, kSize>& to) {
    for (size_t i = 0; i < kSize; ++i) to[i] = from[i].Read();
  }

  Counter submitted_, rows_, row_bytes_, planned_rows_, distinct_rows_;
  std::array<Counter, ClientMetrics::kCodes> refused_, waited_;
  PowerOfTwoHistogram<Counter, ClientMetrics::kBounds> waits_;
};

}  // namespace engram
