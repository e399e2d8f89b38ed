// What a client counts of its own lookups.
//
// Counters are relaxed atomics that the threads of one client share: a few nanoseconds a batch.
// ClientMetrics is a snapshot, a value; client/prometheus.h shows it to Prometheus.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace engram {

struct ClientMetrics {
  static constexpr size_t kCodes = 17;
  static constexpr size_t kBounds = 21;  // of waits: 1 us to 1.05 s, in powers of two, and above

  uint64_t submitted = 0;                     // batches that the transport took
  std::array<uint64_t, kCodes> refused{};     // by Submit, by code
  std::array<uint64_t, kCodes> waited{};      // what Wait ended with, by code
  uint64_t rows = 0;                          // asked for in batches that were taken
  uint64_t row_bytes = 0;                     // of them
  uint64_t planned_rows = 0;                  // that MakeDistinct was given
  uint64_t distinct_rows = 0;                 // that it left
  std::array<uint64_t, kBounds + 1> waits{};  // Wait's and WaitLayer's, by their bound
  uint64_t wait_ns = 0;
};

class ClientCounters {
 public:
  void Submitted(uint64_t rows, uint64_t bytes) {
    Add(submitted_, 1);
    Add(rows_, rows);
    Add(row_bytes_, bytes);
  }
  void Refused(absl::StatusCode code) { Add(refused_[Index(code)], 1); }
  void Waited(absl::StatusCode code) { Add(waited_[Index(code)], 1); }
  void RecordLatency(absl::Duration time) {
    const auto ns = static_cast<uint64_t>(absl::ToInt64Nanoseconds(time));
    const uint64_t us = (ns + 999) / 1000;
    const auto at = static_cast<size_t>(us <= 1 ? 0 : std::bit_width(us - 1));
    Add(waits_[at < ClientMetrics::kBounds ? at : ClientMetrics::kBounds], 1);
    Add(wait_ns_, ns);
  }
  void MadeDistinct(uint64_t planned, uint64_t distinct) {
    Add(planned_rows_, planned);
    Add(distinct_rows_, distinct);
  }
  ClientMetrics Read() const;

 private:
  using Counter = std::atomic<uint64_t>;
  static void Add(Counter& counter, uint64_t value) {
    counter.fetch_add(value, std::memory_order_relaxed);
  }
  static size_t Index(absl::StatusCode code) {
    const auto number = static_cast<size_t>(code);
    return number < ClientMetrics::kCodes ? number
                                          : static_cast<size_t>(absl::StatusCode::kUnknown);
  }

  Counter submitted_{0}, rows_{0}, row_bytes_{0}, planned_rows_{0}, distinct_rows_{0}, wait_ns_{0};
  std::array<Counter, ClientMetrics::kCodes> refused_{}, waited_{};
  std::array<Counter, ClientMetrics::kBounds + 1> waits_{};
};

}  // namespace engram
