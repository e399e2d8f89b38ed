#include "memstore/partition/partition_plan.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/human_units.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

absl::StatusOr<PlannedPartition> Plan(const PartitionIndex& index, const AddressScheme& scheme,
                                      absl::Span<const uint32_t> row_bytes) {
  PlannedPartition planned;
  planned.index = index;
  ENGRAM_ASSIGN_OR_RETURN(planned.columns, ColumnsOf(index, scheme));
  const std::vector<HeldLayer> held = RowsOf(planned.columns, scheme);
  for (size_t i = 0; i < held.size(); ++i) {
    const uint64_t rows = HeldRows(held[i]);
    planned.rows += rows;
    planned.bytes += rows * row_bytes[i];
  }
  return planned;
}

absl::StatusOr<std::vector<PlannedPartition>> PlanAll(uint32_t count, const AddressScheme& scheme,
                                                      absl::Span<const uint32_t> row_bytes) {
  std::vector<PlannedPartition> partitions;
  for (uint32_t i = 0; i < count; ++i) {
    ENGRAM_ASSIGN_OR_RETURN(PlannedPartition planned,
                            Plan({.index = i, .count = count}, scheme, row_bytes));
    partitions.push_back(std::move(planned));
  }
  return partitions;
}

uint64_t MostBytes(absl::Span<const PlannedPartition> partitions) {
  uint64_t most = 0;
  for (const PlannedPartition& partition : partitions) most = std::max(most, partition.bytes);
  return most;
}

// Not the same as rounding the table's bytes up: columns are not cut.
absl::Status DoesNotFit(const PartitionPlan& plan, uint64_t memory, const AddressScheme& scheme,
                        absl::Span<const uint32_t> row_bytes) {
  const std::string has =
      absl::StrCat("with ", Counted(plan.partitions.size(), "partition"), " a store holds ",
                   ExactBytes(plan.most_bytes), ", more than the ", ExactBytes(memory),
                   " that it has for rows: ");
  for (auto count = static_cast<uint32_t>(plan.partitions.size()) + 1; count <= scheme.Columns();
       ++count) {
    ENGRAM_ASSIGN_OR_RETURN(const auto partitions, PlanAll(count, scheme, row_bytes));
    if (MostBytes(partitions) > memory) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(has, uint64_t{count} * plan.replicas, " stores would do, in ", count,
                     " partitions of ", Counted(plan.replicas, "replica")));
  }
  ENGRAM_ASSIGN_OR_RETURN(const auto columns, PlanAll(scheme.Columns(), scheme, row_bytes));
  return absl::FailedPreconditionError(
      absl::StrCat(has, "no number of stores would do, for one column of every layer has ",
                   ExactBytes(MostBytes(columns)), ", and columns are not cut"));
}

}  // namespace

absl::StatusOr<PartitionPlan> PlanPartitions(const AddressScheme& scheme,
                                             absl::Span<const uint32_t> row_bytes,
                                             const PartitionPlanRequest& request) {
  ENGRAM_CHECK(row_bytes.size() == scheme.layers.size(), "row bytes of other layers");
  if (request.stores == 0 || request.stores > kMaxPlannedStores) {
    return absl::InvalidArgumentError(
        absl::StrCat(request.stores, " stores: 1 to ", kMaxPlannedStores));
  }
  if (request.replicas == 0 || request.replicas > request.stores) {
    return absl::InvalidArgumentError(absl::StrCat(Counted(request.replicas, "replica"), " on ",
                                                   Counted(request.stores, "store"),
                                                   ": 1 to as many as there are stores"));
  }
  PartitionPlan plan{.stores = request.stores, .replicas = request.replicas, .partitions = {}};
  const uint32_t count = std::min(request.stores / request.replicas, scheme.Columns());
  ENGRAM_ASSIGN_OR_RETURN(plan.partitions, PlanAll(count, scheme, row_bytes));
  for (uint32_t store = 0; store < plan.stores; ++store) {
    ++plan.partitions[plan.PartitionOf(store)].replicas;
  }
  for (const PlannedPartition& partition : plan.partitions) plan.table_bytes += partition.bytes;
  plan.most_bytes = MostBytes(plan.partitions);
  if (request.memory_per_store && plan.most_bytes > *request.memory_per_store) {
    return DoesNotFit(plan, *request.memory_per_store, scheme, row_bytes);
  }
  return plan;
}

}  // namespace engram
