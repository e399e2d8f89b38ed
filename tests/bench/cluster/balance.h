// How evenly a real token stream's bytes fall on the partitions of a table: as asked for, after
// repeated ids of a batch are taken out, and behind a cache. By arithmetic alone: no rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/addresser.h"

namespace engram::bench {

// Which columns of a layer are one partition's.
enum class Cut {
  kHeads,    // K/N: the same heads of every order (memstore/partition)
  kColumns,  // contiguous ones
};

struct BalanceOptions {
  Cut cut = Cut::kHeads;
  uint32_t partitions = 4;
  size_t batch_tokens = 4096;
  uint32_t row_bytes = 264;
  // Units that the cache holds, of those that differ in the stream. A unit is the rows of
  // neighbouring heads of one order at one position, as many as all cuts leave together.
  double cached_share = 0.1;
};

struct Balance {
  uint64_t tokens = 0;                     // of the second half; the first fills the cache
  std::vector<uint64_t> distinct, missed;  // bytes, a partition each
};

double Sum(absl::Span<const uint64_t> bytes);
// 1: even.
double MaxOverMean(absl::Span<const uint64_t> bytes);

// INVALID_ARGUMENT: that many partitions do not cut heads and columns evenly.
absl::StatusOr<Balance> BalanceOf(const Addresser& addresser, absl::Span<const int32_t> ids,
                                  const BalanceOptions& options);

}  // namespace engram::bench
