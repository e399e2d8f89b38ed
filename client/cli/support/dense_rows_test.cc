#include "client/cli/support/dense_rows.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kMib = 1 << 20;

TEST(BatchMemory, SmallBatchesKeepTheWireBusy) {
  EXPECT_EQ(BatchesInFlight(4096, 8448), kMostBatchesInFlight);
  EXPECT_EQ(BatchesInFlight(1, 1), kMostBatchesInFlight);
  EXPECT_EQ(BatchesInFlight(1, 0), kMostBatchesInFlight);  // a slice without columns
}

TEST(BatchMemory, LargeOnesAreFewer) {
  EXPECT_EQ(BatchesInFlight(170, kMib), 3u);
  EXPECT_EQ(BatchesInFlight(171, kMib), 2u);
  EXPECT_EQ(BatchesInFlight(256, kMib), 2u);
  EXPECT_EQ(BatchesInFlight(257, kMib), 1u);
  EXPECT_EQ(BatchesInFlight(65536, 8448), 1u);
  EXPECT_EQ(BatchesInFlight(1024, kMib), 1u);
}

TEST(BatchMemory, WhatIsTooLargeIsRefusedWithBothSizesAndTheFlag) {
  EXPECT_TRUE(CheckBatchMemory(1024, kMib).ok());
  EXPECT_TRUE(CheckBatchMemory(1, 2 * kMostBatchBytes).ok());  // one token always goes
  EXPECT_TRUE(CheckBatchMemory(1 << 20, 0).ok());
  const absl::Status status = CheckBatchMemory(1025, kMib);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("--batch-tokens 1025"), HasSubstr("1074790400 bytes"),
                    HasSubstr("give at most 1024")));
  EXPECT_EQ(MostBatchTokens(kMib), 1024u);
}

}  // namespace
}  // namespace engram::cli
