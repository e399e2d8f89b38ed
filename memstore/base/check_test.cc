#include "memstore/base/check.h"

#include <memory>

#include "gtest/gtest.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

TEST(Check, IsSilentWhereItHolds) { ENGRAM_CHECK(1 + 1 == 2, "arithmetic"); }

TEST(CheckDeathTest, SaysWhatFailedAndWhy) {
  EXPECT_DEATH(ENGRAM_CHECK(1 + 1 == 3, "arithmetic"),
               "check_test.cc:[0-9]+: check failed: 1 \\+ 1 == 3: arithmetic");
}

absl::Status Fails(bool fails) { return fails ? absl::DataLossError("gone") : absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<int>> Makes(bool fails) {
  ENGRAM_RETURN_IF_ERROR(Fails(fails));
  return std::make_unique<int>(7);
}

absl::StatusOr<int> Uses(bool fails) {
  ENGRAM_ASSIGN_OR_RETURN(const std::unique_ptr<int> made, Makes(fails));
  int value = 0;
  ENGRAM_ASSIGN_OR_RETURN(value, absl::StatusOr<int>(*made));
  return value;
}

TEST(StatusMacros, PassValuesAndErrorsOn) {
  EXPECT_EQ(Uses(false).value(), 7);
  EXPECT_EQ(Uses(true).status(), absl::DataLossError("gone"));
}

}  // namespace
}  // namespace engram
