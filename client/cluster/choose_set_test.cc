#include "client/cluster/choose_set.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/store_state.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_cluster::kSetId;
using testing_cluster::Partitioned;
using testing_cluster::Scheme;

class ChooseSetTest : public ::testing::Test {
 protected:
  void AddSet(const std::string& name, char digit, uint64_t generation) {
    for (StoreState& store : heard_) {
      HeldSet set = store.sets[0];
      set.name = name;
      set.set_id = std::string(64, digit);
      set.generation = generation;
      store.sets.push_back(set);
    }
  }

  std::vector<StoreState> heard_ = Partitioned(Scheme(), 2, 1);
};

TEST_F(ChooseSetTest, FindsTheOnlyOneANameAndAnId) {
  for (const std::string& asked :
       {std::string(), std::string("table"), kSetId, kSetId.substr(0, 12)}) {
    const auto chosen = ChooseSet(asked, heard_);
    ASSERT_TRUE(chosen.ok()) << asked << ": " << chosen.status();
    EXPECT_EQ(*chosen, kSetId);
  }
}

TEST_F(ChooseSetTest, ANameMeansItsHighestGeneration) {
  AddSet("table", 'b', 7);
  EXPECT_EQ(ChooseSet("table", heard_).value(), std::string(64, 'b'));
  EXPECT_EQ(ChooseSet("", heard_).value(), std::string(64, 'b'));
  EXPECT_EQ(ChooseSet(kSetId, heard_).value(), kSetId);
}

TEST_F(ChooseSetTest, SeveralNamesAreListed) {
  AddSet("other", 'b', 1);
  const absl::Status status = ChooseSet("", heard_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("other"), HasSubstr("table")));
}

TEST_F(ChooseSetTest, WhatNobodyServesIsNotFound) {
  const absl::Status status = ChooseSet("no-such", heard_).status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("they serve table"));
  EXPECT_TRUE(absl::IsNotFound(ChooseSet("", {}).status()));
}

TEST_F(ChooseSetTest, ANameThatLooksLikeAnIdDoesNotStandInForIt) {
  AddSet(kSetId, 'b', 1);
  EXPECT_EQ(ChooseSet(kSetId, heard_).value(), kSetId);
}

TEST_F(ChooseSetTest, AnIncompleteNameIsUnavailable) {
  heard_.pop_back();
  const absl::Status status = ChooseSet("table", heard_).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("rows ["));
}

TEST_F(ChooseSetTest, TwoIdsAtOneGenerationAreNamed) {
  AddSet("table", 'b', 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(ChooseSet("table", heard_).status()));
}

}  // namespace
}  // namespace engram
