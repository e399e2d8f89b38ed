#include "server/table_sets/checkpoint_set.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CheckpointSetTest, WhereAKeptSetsRowsAreOthersThereIsAWayOut) {
  const absl::Status status =
      WithFixOfKeptSet(absl::DataLossError("rows lack their checksum"), "/state/linked-checkpoint");
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("rows lack their checksum"),
                    HasSubstr("remove /state/linked-checkpoint and start engramd again")));
  // Of others the set is not at fault.
  for (const absl::Status& other : {absl::OkStatus(), absl::ResourceExhaustedError("too large")}) {
    EXPECT_EQ(WithFixOfKeptSet(other, "/state/linked-checkpoint"), other);
  }
}

}  // namespace
}  // namespace engram
