#include "memstore/cluster/cluster_map.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/cluster/piece_table.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing_cluster::kSetId;
using testing_cluster::Partitioned;

class ClusterMapTest : public ::testing::Test {
 protected:
  std::shared_ptr<const ClusterMap> Map(const std::vector<StoreState>& heard) const {
    auto map = ClusterMap::Create(kSetId, scheme_, heard);
    EXPECT_TRUE(map.ok()) << map.status();
    return *std::move(map);
  }
  std::string Refused(const StoreState& store) const {
    const auto map = Map({store});
    EXPECT_TRUE(map->stores().empty());
    return map->refused().empty() ? "" : std::string(map->refused()[0].why.message());
  }

  const AddressScheme scheme_ = testing_cluster::Scheme();
};

TEST_F(ClusterMapTest, GroupsStoresThatHoldTheSameColumns) {
  const auto map = Map(Partitioned(scheme_, 4, 2));
  EXPECT_TRUE(map->is_complete());
  EXPECT_EQ(map->CheckComplete(), absl::OkStatus());
  ASSERT_EQ(map->pieces().size(), 4);
  for (uint32_t p = 0; p < 4; ++p) {
    const MapPiece& piece = map->pieces()[p];
    EXPECT_THAT(piece.stores, ElementsAre(2 * p, 2 * p + 1));
    EXPECT_EQ(piece.columns, ColumnsOf(PartitionIndex{p, 4}, scheme_).value());
    EXPECT_EQ(piece.rows, RowsOf(piece.columns, scheme_));
    EXPECT_EQ(map->HoldersOf(piece.columns), piece.stores);
  }
  EXPECT_EQ(map->PiecesOfColumns(1)[9], 0);
  EXPECT_EQ(map->PiecesOfColumns(1)[10], 1);
  const LayerAddressing& layer = scheme_.layers[0];
  for (uint32_t column = 0; column < scheme_.Columns(); ++column) {
    const uint64_t end = layer.offsets[column] + layer.moduli[column];
    EXPECT_EQ(map->PiecesOfRows(0).PieceOf(layer.offsets[column]), map->PiecesOfColumns(0)[column]);
    EXPECT_EQ(map->PiecesOfRows(0).PieceOf(end - 1), map->PiecesOfColumns(0)[column]);
  }
  EXPECT_EQ(map->IndexOfLayer(14), 1);
  EXPECT_EQ(map->IndexOfLayer(2), 2);
}

TEST_F(ClusterMapTest, MixesKindsOfPartitions) {
  std::vector<StoreState> heard = Partitioned(scheme_, 2, 1);
  heard.push_back(testing_cluster::Store(scheme_, "whole", 0, 1));
  heard.push_back(testing_cluster::Store(scheme_, "quarter", 0, 4));
  const auto map = Map(heard);
  ASSERT_EQ(map->pieces().size(), 3);
  std::vector<size_t> holders;
  for (const MapPiece& piece : map->pieces()) holders.push_back(piece.stores.size());
  EXPECT_THAT(holders, ElementsAre(3, 2, 2));
  // The half that is two pieces now.
  EXPECT_EQ(map->HoldersOf(ColumnsOf(PartitionIndex{0, 2}, scheme_).value()).size(), 2);
  EXPECT_EQ(map->HoldersOf(ColumnsOf(PartitionIndex{0, 1}, scheme_).value()).size(), 1);
}

TEST_F(ClusterMapTest, NamesWhatNobodyHolds) {
  std::vector<StoreState> heard = Partitioned(scheme_, 4, 1);
  heard[2].sets[0].state = HoldingState::kStaged;
  const auto map = Map(heard);
  EXPECT_EQ(map->stores().size(), 3);
  EXPECT_EQ(map->pieces().size(), 4);
  EXPECT_FALSE(map->is_complete());
  EXPECT_TRUE(map->Covers(ColumnsOf(PartitionIndex{1, 4}, scheme_).value()));
  EXPECT_FALSE(map->Covers(ColumnsOf(PartitionIndex{1, 2}, scheme_).value()));
  const absl::Status status = map->CheckComplete();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  for (const char* part :
       {"layer 1: columns 4..5, 12..13, 20..21", "layer 14", "rows [", "3 stores"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
  EXPECT_EQ(Map({})->pieces().size(), 1);
}

TEST_F(ClusterMapTest, CountsAStoreOnce) {
  std::vector<StoreState> heard = Partitioned(scheme_, 1, 1);
  heard.push_back(heard[0]);
  heard[1].address = "another:7300";
  auto map = Map(heard);
  ASSERT_EQ(map->stores().size(), 1);
  EXPECT_EQ(map->stores()[0].address, "another:7300");
  std::reverse(heard.begin(), heard.end());
  EXPECT_EQ(Map(heard)->stores()[0].address, "another:7300");
  // Two at one address: the one that was heard last is there.
  heard[1].address = heard[0].address;
  heard[1].instance_id = "newer";
  map = Map(heard);
  ASSERT_EQ(map->stores().size(), 1);
  EXPECT_EQ(map->stores()[0].instance_id, "newer");
}

TEST_F(ClusterMapTest, PassesOverGatewaysAndOtherSets) {
  std::vector<StoreState> heard = Partitioned(scheme_, 1, 3);
  heard[0].role = StoreRole::kGateway;
  heard[1].sets[0].set_id = std::string(64, 'b');
  const auto map = Map(heard);
  ASSERT_EQ(map->stores().size(), 1);
  EXPECT_EQ(map->stores()[0].instance_id, "p0r2");
  EXPECT_TRUE(map->refused().empty());
}

TEST_F(ClusterMapTest, LeavesOutWhoContradictsItself) {
  const StoreState good = testing_cluster::Store(scheme_, "bad", 0, 2);
  StoreState bad = good;
  bad.sets[0].layers[0].rows.ranges[1].first = 5;
  EXPECT_THAT(Refused(bad),
              testing::AllOf(HasSubstr("bad:7300"), HasSubstr("layer 1"), HasSubstr("overlaps")));
  bad = good;
  std::swap(bad.sets[0].layers[0].rows.ranges[0], bad.sets[0].layers[0].rows.ranges[1]);
  EXPECT_THAT(Refused(bad), HasSubstr("stands behind"));
  bad = good;
  bad.sets[0].layers[1].rows.ranges.back().rows = ~uint64_t{0};
  EXPECT_THAT(Refused(bad), HasSubstr("layer 14"));
  bad = good;
  bad.sets[0].layers[0].rows.ranges[0].rows = 0;
  EXPECT_THAT(Refused(bad), HasSubstr("has 0 rows"));
  bad = good;
  bad.sets[0].layers[0].rows.table_rows += 1;
  EXPECT_THAT(Refused(bad), HasSubstr("where the set has layer 1"));
  bad = good;
  bad.sets[0].layers.pop_back();
  EXPECT_THAT(Refused(bad), HasSubstr("lists 1 layers"));
  bad = good;
  bad.sets.push_back(bad.sets[0]);
  EXPECT_THAT(Refused(bad), HasSubstr("listed twice"));
  bad = good;
  bad.sets[0].set_id = "x";
  EXPECT_THAT(Refused(bad), HasSubstr("64 lower-case"));
  bad = good;
  bad.instance_id = "a\nb";
  EXPECT_THAT(Refused(bad), Not(HasSubstr("\n")));
  EXPECT_NE(Refused(bad), "");
  bad = good;
  bad.sets[0].layers[0].layer = 99;
  EXPECT_THAT(Refused(bad), HasSubstr("stands behind"));
  // The others are a map all the same, and its message says who is missing.
  bad.sets[0].layers[0].layer = 0;
  const auto map = Map({bad, testing_cluster::Store(scheme_, "other", 1, 2)});
  EXPECT_EQ(map->stores().size(), 1);
  EXPECT_THAT(std::string(map->CheckComplete().message()), HasSubstr("bad:7300"));
}

TEST_F(ClusterMapTest, DrainingStoresStayUntilTheyAreGone) {
  std::vector<StoreState> heard = Partitioned(scheme_, 1, 1);
  heard[0].sets[0].state = HoldingState::kDraining;
  EXPECT_TRUE(Map(heard)->is_complete());
  EXPECT_TRUE(Map(heard)->stores()[0].draining);
}

// Each row's piece, by walking through the runs.
void ExpectExact(const std::vector<uint64_t>& run_rows) {
  std::vector<uint64_t> first_rows = {0};
  std::vector<uint16_t> pieces;
  for (const uint64_t rows : run_rows) {
    first_rows.push_back(first_rows.back() + rows);
    pieces.push_back(static_cast<uint16_t>(pieces.size() * 7 % 5));
  }
  const PieceTable table(first_rows, pieces);
  std::mt19937_64 random(1);
  for (size_t run = 0; run < run_rows.size(); ++run) {
    const uint64_t first = first_rows[run], end = first_rows[run + 1];
    ASSERT_EQ(table.PieceOf(first), pieces[run]) << run;
    ASSERT_EQ(table.PieceOf(end - 1), pieces[run]) << run;
    for (int i = 0; i < 100; ++i) {
      const uint64_t row = first + random() % (end - first);
      ASSERT_EQ(table.PieceOf(row), pieces[run]) << "row " << row;
    }
  }
}

TEST(PieceTableTest, EveryRowIsOfItsRunsPiece) {
  ExpectExact({1});
  ExpectExact({1000});
  ExpectExact({64, 64, 64});
  ExpectExact({63, 65, 64, 127});
  ExpectExact({1, 1, 1, 2, 3, 1});
  ExpectExact({20'000'003, 20'000'023, 20'000'033});
  ExpectExact(std::vector<uint64_t>(200, 999'983));
  ExpectExact({uint64_t{1} << 40, 3, uint64_t{1} << 40});
}

// Of a few rows beside millions: there are not as many buckets as it would take.
TEST(PieceTableTest, ShortRunsAreSearched) {
  ExpectExact({10'000'000, 5, 7, 1, 10'000'000, 3});
  std::mt19937_64 random(2);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint64_t> rows(1 + random() % 60);
    for (uint64_t& one : rows) one = 1 + random() % (uint64_t{1} << (random() % 30));
    ExpectExact(rows);
  }
}

}  // namespace
}  // namespace engram
