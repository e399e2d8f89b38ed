#include "memstore/cluster/set_names.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

class SetNamesTest : public ::testing::Test {
 protected:
  // Has the store list generation 2 of the name, too, as a set of the same shape.
  static void Publish(StoreState& store, HoldingState state) {
    HeldSet next = store.sets[0];
    next.set_id = std::string(64, 'b');
    next.generation = 2;
    next.state = state;
    if (state == HoldingState::kServing) store.sets[0].state = HoldingState::kSuperseded;
    store.sets.push_back(next);
  }
  uint64_t Generation() const {
    const auto named = ResolveName("table", heard_);
    EXPECT_TRUE(named.ok()) << named.status();
    return named.ok() ? named->generation : 0;
  }

  const AddressScheme scheme_ = testing_cluster::Scheme();
  std::vector<StoreState> heard_ = testing_cluster::Partitioned(scheme_, 2, 2);
};

TEST_F(SetNamesTest, MeansTheCompleteSetOfTheHighestGeneration) {
  EXPECT_EQ(*ResolveName("table", heard_), (NamedSet{testing_cluster::kSetId, 1}));
  for (StoreState& store : heard_) Publish(store, HoldingState::kStaged);
  EXPECT_EQ(Generation(), 1);
  // Store after store: the two of partition 0 first.
  for (size_t i = 0; i < heard_.size(); ++i) {
    heard_[i].sets[0].state = HoldingState::kSuperseded;
    heard_[i].sets[1].state = HoldingState::kServing;
    EXPECT_EQ(Generation(), i < 2 ? 1 : 2) << i;
  }
}

TEST_F(SetNamesTest, DrainingCountsAndRetiredDoesNot) {
  for (StoreState& store : heard_) store.sets[0].state = HoldingState::kDraining;
  EXPECT_EQ(Generation(), 1);
  for (StoreState& store : heard_) store.sets[0].state = HoldingState::kSuperseded;
  EXPECT_EQ(ResolveName("table", heard_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SetNamesTest, TwoIdsAtOneGenerationAreAnError) {
  heard_[3].sets[0].set_id = std::string(64, 'c');
  const absl::Status status = ResolveName("table", heard_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  for (const std::string& part : {std::string(64, 'a'), std::string(64, 'c'),
                                  std::string("p0r0:7300"), std::string("p1r1:7300")}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST_F(SetNamesTest, NamesWhatIsMissing) {
  heard_.resize(2);
  const absl::Status status = ResolveName("table", heard_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("rows ["));
  EXPECT_THAT(std::string(status.message()), HasSubstr("of layer 1"));
  EXPECT_EQ(ResolveName("other", heard_).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SetNamesTest, StoresHaveToAgreeOnTheTable) {
  heard_[2].sets[0].layers[1].rows.table_rows += 7;
  EXPECT_EQ(ResolveName("table", heard_).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(SetNamesTest, GatewaysAreNoReplicas) {
  heard_[0].role = heard_[1].role = StoreRole::kGateway;
  EXPECT_EQ(ResolveName("table", heard_).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace engram
