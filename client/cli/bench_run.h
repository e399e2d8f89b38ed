// One measurement: batches of one size, over some clients, for some seconds or a number of rounds.
//
// A client's batches are waited for in the order in which they were asked for, as they finish, or
// nearly so, when all are of one size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "memstore/base/clock.h"

namespace engram::cli {

struct BenchSetting {
  uint64_t batch_tokens = 1;
  uint64_t in_flight = 1;  // batches a client
  double seconds = 1;
  uint64_t rounds = 0;          // batches, over all clients; 0: as many as `seconds` allow
  bool from_token_ids = false;  // the addressing is measured too
  std::optional<ColumnSlice> slice = {};  // of every layer; none: all columns
};

// What batches are cut from: one sequence.
struct BenchTokens {
  absl::Span<const int32_t> ids;
  absl::Span<const uint8_t> dead = {};  // a mark for each, or none

  BenchTokens Part(size_t first, size_t count) const {
    return {ids.subspan(first, count), dead.empty() ? dead : dead.subspan(first, count)};
  }
};

struct BenchResult {
  uint64_t rounds = 0;  // batches landed
  double p50_us = 0, p99_us = 0, p999_us = 0;
  double rows_per_s = 0;      // delivered, over all clients
  double gb_per_s = 0;        // 1e9 bytes
  double distinct_share = 0;  // distinct rows of a batch / its rows
};

// What the buffers of so many clients take, where batches land and are planned.
uint64_t BenchBytes(const Manifest& table_set, const BenchSetting& setting, uint64_t clients);

// A thread for each client ("bench"); each goes round `tokens` from a place of its own. The
// first error of any client ends the run and is returned; RESOURCE_EXHAUSTED when memory or threads
// run out.
absl::StatusOr<BenchResult> RunBench(absl::Span<const std::shared_ptr<Client>> clients,
                                     const BenchTokens& tokens, const BenchSetting& setting,
                                     Clock& clock = RealClock());

}  // namespace engram::cli
