// One way to the same table set, timed: some stores of its partitions, started for it, and a client
// of them.
//
// Beside time it counts what the kernel says of both ends: sleeps that a thread was woken from
// (voluntary context switches) and time on a core. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "tests/cluster/faulty_stores.h"

namespace engram::bench {

// Of one end since it began, or between two moments.
struct EndCounts {
  uint64_t sleeps = 0;  // of all its threads
  absl::Duration cpu;
};

struct Timing {
  double tokens_per_s = 0;
  double p50_us = 0;
  // A batch.
  double client_sleeps = 0, store_sleeps = 0;
  double client_cpu_us = 0, store_cpu_us = 0;
};

class TimedClient {
 public:
  // `target`: of the stores; they, and what `target` names, outlive this.
  TimedClient(std::string name, const integration::FaultyStores* stores, const std::string& target,
              absl::Duration spin);

  const std::string& name() const { return name_; }
  // Batches of so many tokens of the stream, one after the other and `in_flight` at a time. Ends
  // the process where one fails. The first call for a size checks every row.
  Timing Measure(absl::Span<const int32_t> stream, size_t tokens, size_t in_flight,
                 absl::Duration time);

 private:
  struct Batch {
    Client::Plan plan;
    std::vector<std::byte> rows;
    std::vector<Landing> landings;
    Ticket ticket;
    MonotonicTime begin;
  };
  void Check(absl::Span<const int32_t> ids);
  EndCounts StoreCounts() const;

  const std::string name_;
  const integration::FaultyStores* const stores_;
  std::unique_ptr<Client> client_;
  std::vector<size_t> checked_;  // sizes
};

}  // namespace engram::bench
