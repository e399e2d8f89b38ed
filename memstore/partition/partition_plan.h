// Who is to hold what of a table set: partitions over stores, their bytes, and what losing a store
// would cost.
//
// The set is cut into as many partitions as there are stores for all replicas, at most one a
// column; store s holds partition s % partitions, so stores that are left over are further
// replicas. A pure function, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/partition/partition.h"

namespace engram {

struct PlannedPartition {
  PartitionIndex index;
  std::vector<HeldColumns> columns;  // one a layer
  uint64_t rows = 0;
  uint64_t bytes = 0;
  uint32_t replicas = 0;
  // After the loss of one of its stores: what the others answer in the place of 1. With one replica
  // there are none, and every lookup fails until the store is back: each token has rows of every
  // partition.
  double load_after_loss() const { return replicas > 1 ? replicas / (replicas - 1.0) : 0; }
};

struct PartitionPlan {
  uint32_t stores = 0;
  uint32_t replicas = 0;                     // of each partition at least
  std::vector<PlannedPartition> partitions;  // by index
  uint64_t table_bytes = 0;
  uint64_t most_bytes = 0;  // of a store

  uint32_t PartitionOf(uint32_t store) const {
    return store % static_cast<uint32_t>(partitions.size());
  }
};

struct PartitionPlanRequest {
  uint32_t stores = 0;
  uint32_t replicas = 1;
  std::optional<uint64_t> memory_per_store = std::nullopt;  // for rows
};

// More is a slip of the finger: of the widest layer a store would hold less than a column.
inline constexpr uint32_t kMaxPlannedStores = 4096;

// `row_bytes`: of each layer of the scheme. INVALID_ARGUMENT: no stores, no replicas, more replicas
// than stores, or more stores than kMaxPlannedStores. FAILED_PRECONDITION: a partition takes more
// than memory_per_store; how many stores would do is said, or that no number does.
absl::StatusOr<PartitionPlan> PlanPartitions(const AddressScheme& scheme,
                                             absl::Span<const uint32_t> row_bytes,
                                             const PartitionPlanRequest& request);

}  // namespace engram
