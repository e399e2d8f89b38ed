#include "memstore/partition/partition_plan.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

class PartitionPlanTest : public ::testing::Test {
 protected:
  absl::StatusOr<PartitionPlan> Plan(const PartitionPlanRequest& request) const {
    return PlanPartitions(scheme_, row_bytes_, request);
  }

  const AddressScheme scheme_ = testing_cluster::Scheme();
  const std::vector<uint32_t> row_bytes_ = {8, 16};
  const uint64_t table_bytes_ = scheme_.layers[0].Rows() * 8 + scheme_.layers[1].Rows() * 16;
};

TEST_F(PartitionPlanTest, CutsTheSetAmongTheStores) {
  const PartitionPlan plan = Plan({.stores = 8, .replicas = 2}).value();
  ASSERT_EQ(plan.partitions.size(), 4);
  EXPECT_EQ(plan.table_bytes, table_bytes_);
  uint64_t rows = 0;
  for (uint32_t p = 0; p < 4; ++p) {
    const PlannedPartition& partition = plan.partitions[p];
    EXPECT_EQ(partition.index, (PartitionIndex{p, 4}));
    EXPECT_EQ(partition.columns, ColumnsOf(PartitionIndex{p, 4}, scheme_).value());
    EXPECT_EQ(partition.replicas, 2);
    EXPECT_EQ(partition.load_after_loss(), 2.0);
    EXPECT_LE(partition.bytes, plan.most_bytes);
    rows += partition.rows;
  }
  EXPECT_EQ(rows, scheme_.layers[0].Rows() + scheme_.layers[1].Rows());
  EXPECT_EQ(plan.PartitionOf(0), plan.PartitionOf(4));
}

TEST_F(PartitionPlanTest, StoresThatAreLeftOverAreReplicas) {
  const PartitionPlan plan = Plan({.stores = 7, .replicas = 2}).value();
  ASSERT_EQ(plan.partitions.size(), 3);
  EXPECT_EQ(plan.partitions[0].replicas, 3);
  EXPECT_EQ(plan.partitions[0].load_after_loss(), 1.5);
  EXPECT_EQ(plan.partitions[1].replicas, 2);
  // No more partitions than columns.
  EXPECT_EQ(Plan({.stores = 100}).value().partitions.size(), scheme_.Columns());
  EXPECT_EQ(Plan({.stores = 1}).value().partitions[0].load_after_loss(), 0);
}

TEST_F(PartitionPlanTest, SaysHowManyStoresWouldDo) {
  const uint64_t memory = Plan({.stores = 5}).value().most_bytes;
  const absl::Status status =
      Plan({.stores = 4, .replicas = 2, .memory_per_store = memory}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("10 stores would do, in 5 partitions of 2 replicas"));
  EXPECT_TRUE(Plan({.stores = 10, .replicas = 2, .memory_per_store = memory}).ok());
  const absl::Status never = Plan({.stores = 4, .memory_per_store = 100}).status();
  EXPECT_THAT(std::string(never.message()), HasSubstr("no number of stores would do"));
}

TEST_F(PartitionPlanTest, RefusesNumbersThatCannotBe) {
  for (const PartitionPlanRequest& request :
       {PartitionPlanRequest{.stores = 0}, PartitionPlanRequest{.stores = 2, .replicas = 0},
        PartitionPlanRequest{.stores = 2, .replicas = 3},
        PartitionPlanRequest{.stores = kMaxPlannedStores + 1}}) {
    EXPECT_EQ(Plan(request).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace engram
