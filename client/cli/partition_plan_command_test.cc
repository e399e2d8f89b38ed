// engram partition-plan, as a person calls it.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "client/cli/support/command_test_base.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram::cli {
namespace {

using ::testing::HasSubstr;

class PartitionPlanCommandTest : public CommandTest {
 protected:
  PartitionPlanCommandTest() : CommandTest({AddPackCommand, AddPartitionPlanCommand}) {}

  void SetUp() override {
    ASSERT_EQ(
        Run({"pack", "--synthetic", "--family", "deepseek-v4.1-flash", "--rows-per-head", "100",
             "--token-map", "tests/golden/deepseek_v41_token_map.i32", "--output", Path("set")}),
        kDone)
        << said_;
  }
  int Plan(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"partition-plan", Path("set")});
    return Run(flags);
  }
  nlohmann::json PlanJson(std::vector<std::string> flags) {
    flags.push_back("--json");
    EXPECT_EQ(Plan(flags), kDone) << said_;
    return nlohmann::json::parse(printed_);
  }
};

TEST_F(PartitionPlanCommandTest, SaysWhoHoldsWhat) {
  const nlohmann::json plan = PlanJson({"--stores", "8", "--replicas", "2"});
  ASSERT_EQ(plan["partitions"].size(), 4);
  ASSERT_EQ(plan["stores"].size(), 8);
  const nlohmann::json& first = plan["partitions"][0];
  EXPECT_EQ(first["partition"], "0/4");
  EXPECT_EQ(first["replicas"], 2);
  EXPECT_EQ(first["layers"][0]["columns"], nlohmann::json::parse("[[0, 1], [8, 9], [16, 17]]"));
  uint64_t bytes = 0;
  for (const nlohmann::json& partition : plan["partitions"]) {
    bytes += partition["bytes"].get<uint64_t>();
  }
  EXPECT_EQ(plan["table_bytes"], bytes);
  EXPECT_EQ(plan["stores"][5]["partition"], "1/4");
  EXPECT_EQ(plan["stores"][5]["loss"]["lookups_fail"], false);
  EXPECT_EQ(plan["stores"][5]["loss"]["load_of_its_replicas"], 2.0);
  ASSERT_EQ(Plan({"--stores", "8", "--replicas", "2"}), kDone);
  EXPECT_THAT(printed_, HasSubstr("columns 0..1, 8..9, 16..17"));
  EXPECT_THAT(printed_, HasSubstr("no lookup; each replica left answers 2.00 times as much"));
}

TEST_F(PartitionPlanCommandTest, SaysWhatTheLossOfAnOnlyStoreCosts) {
  EXPECT_EQ(PlanJson({"--stores", "3"})["stores"][0]["loss"]["lookups_fail"], true);
  ASSERT_EQ(Plan({"--stores", "3"}), kDone);
  EXPECT_THAT(printed_, HasSubstr("every lookup fails until it is back"));
}

TEST_F(PartitionPlanCommandTest, RefusesWhatDoesNotFit) {
  const auto memory = PlanJson({"--stores", "4"})["most_bytes_of_a_store"].get<uint64_t>();
  const std::string flag = absl::StrCat(memory);
  EXPECT_EQ(Plan({"--stores", "4", "--memory-per-store", flag}), kDone) << said_;
  EXPECT_EQ(Plan({"--stores", "2", "--memory-per-store", flag}), kFailed);
  EXPECT_THAT(said_, HasSubstr("4 stores would do"));
  EXPECT_EQ(printed_, "");
  EXPECT_EQ(Plan({"--stores", "2", "--memory-per-store", "100"}), kFailed);
  EXPECT_THAT(said_, HasSubstr("no number of stores would do"));
}

TEST_F(PartitionPlanCommandTest, RefusesBadUsage) {
  EXPECT_EQ(Plan({}), kBadUsage);
  EXPECT_THAT(said_, HasSubstr("--stores"));
  EXPECT_EQ(Plan({"--stores", "0"}), kBadUsage);
  EXPECT_EQ(Plan({"--stores", "2", "--replicas", "3"}), kBadUsage);
  EXPECT_EQ(Plan({"--stores", "2", "--memory-per-store", "much"}), kBadUsage);
  EXPECT_EQ(Run({"partition-plan", Path("none"), "--stores", "2"}), kFailed);
}

}  // namespace
}  // namespace engram::cli
