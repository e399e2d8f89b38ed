#include "memstore/cluster/split.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/base/testing/count_allocations.h"
#include "memstore/cluster/testing/cluster_scheme.h"

namespace engram {
namespace {

constexpr uint32_t kRowBytes = 8;
constexpr uint32_t kColumns = 24;

// A row's bytes are its layer's index and its id, so that a landing shows what is in it.
uint64_t RowOf(uint32_t layer_index, RowId id) { return (uint64_t{layer_index} << 48) | (id + 1); }

class SplitTest : public ::testing::Test {
 protected:
  SplitTest() { Use(testing_cluster::Partitioned(scheme_, 4, 1)); }

  void Use(const std::vector<StoreState>& heard) {
    auto map = ClusterMap::Create(testing_cluster::kSetId, scheme_, heard);
    ASSERT_TRUE(map.ok()) << map.status();
    map_ = *std::move(map);
    splitter_ = std::make_unique<BatchSplitter>(map_);
  }

  // Random ids of the slice's columns, [tokens, columns].
  std::vector<RowId> Ids(uint32_t layer_index, const ColumnSlice& slice, uint64_t tokens) {
    const LayerAddressing& layer = scheme_.layers[layer_index];
    std::vector<RowId> ids;
    for (uint64_t t = 0; t < tokens; ++t) {
      for (uint32_t c = 0; c < slice.columns(); ++c) {
        const uint32_t column = slice.LayerColumn(c);
        ids.push_back(layer.offsets[column] + random_() % layer.moduli[column]);
      }
    }
    return ids;
  }

  // Lands each part as its store would, and holds every byte against what one store would have
  // made of the whole batch.
  void ExpectExact(absl::Span<const SplitRequest> requests, SplitStyle style) {
    std::vector<std::vector<std::byte>> want, got;
    std::vector<SplitRequest> asked(requests.begin(), requests.end());
    for (SplitRequest& request : asked) {
      const uint64_t bytes = request.landing.Extent(request.row_ids.size(), kRowBytes).value_or(0);
      want.emplace_back(bytes), got.emplace_back(bytes);
      request.landing.data = want.back().data();
      Land(request.layer_index, request.row_ids, request.landing);
      request.landing.data = got.back().data();
    }
    ASSERT_EQ(splitter_->Split(asked, style, &split_), absl::OkStatus());
    uint64_t rows = 0;
    uint32_t last_piece = 0;
    for (const SplitPart& part : split_.parts()) {
      EXPECT_GE(part.piece, last_piece);
      last_piece = part.piece;
      uint64_t part_rows = 0;
      for (const PartLayer& layer : part.layers) {
        const uint32_t index = asked[layer.request].layer_index;
        EXPECT_EQ(layer.rows, layer.row_ids.size());
        for (const RowId id : layer.row_ids) {
          EXPECT_TRUE(Holds(map_->pieces()[part.piece].rows[index], id)) << id;
        }
        if (style == SplitStyle::kRuns) {
          EXPECT_TRUE(layer.landing.places.empty());
        }
        ExpectIdsInColumns(index, layer);
        Land(index, layer.row_ids, layer.landing);
        part_rows += layer.rows;
      }
      EXPECT_EQ(part.rows, part_rows);
      EXPECT_EQ(part.bytes, part_rows * kRowBytes);
      rows += part_rows;
    }
    uint64_t asked_rows = 0;
    for (const SplitRequest& request : asked) asked_rows += request.row_ids.size();
    EXPECT_EQ(rows, asked_rows);
    EXPECT_EQ(want, got);
  }

  void ExpectIdsInColumns(uint32_t index, const PartLayer& layer) {
    if (layer.slice == nullptr) return;  // in any order
    const LayerAddressing& addressing = scheme_.layers[index];
    for (size_t i = 0; i < layer.row_ids.size(); ++i) {
      const uint32_t column =
          layer.slice->LayerColumn(static_cast<uint32_t>(i % layer.slice->columns()));
      EXPECT_LT(layer.row_ids[i] - addressing.offsets[column], addressing.moduli[column]);
    }
  }

  static void Land(uint32_t index, absl::Span<const RowId> ids, const Landing& landing) {
    for (size_t i = 0; i < ids.size(); ++i) {
      const uint64_t row = RowOf(index, ids[i]);
      std::memcpy(landing.PlaceOf(i, kRowBytes), &row, kRowBytes);
    }
  }

  const AddressScheme scheme_ = testing_cluster::Scheme();
  std::shared_ptr<const ClusterMap> map_;
  std::unique_ptr<BatchSplitter> splitter_;
  BatchSplit split_;
  std::mt19937_64 random_{7};
};

TEST_F(SplitTest, SplitsByColumnsWhateverTheLanding) {
  const ColumnSlice all = ColumnSlice::All(kColumns);
  for (const uint64_t tokens : {1, 3, 64, 65, 300}) {
    const std::vector<RowId> first = Ids(0, all, tokens), second = Ids(1, all, tokens);
    std::vector<uint32_t> places(first.size());
    for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<uint32_t>(i);
    std::shuffle(places.begin(), places.end(), random_);
    const Landing plain, groups{.group_rows = kColumns, .group_stride_bytes = 24 * 8 * 3},
        packed{.group_rows = kColumns, .group_stride_bytes = 24 * 8},
        odd{.group_rows = 5, .group_stride_bytes = 48}, listed{.places = places};
    for (const Landing& landing : {plain, groups, packed, odd, listed}) {
      ExpectExact(
          {{.layer_index = 0, .row_bytes = 8, .row_ids = first, .slice = &all, .landing = landing},
           {.layer_index = 1,
            .row_bytes = 8,
            .row_ids = second,
            .slice = &all,
            .landing = landing}},
          SplitStyle::kPlaces);
      EXPECT_EQ(split_.parts().size(), 4);
    }
    for (const Landing& landing : {plain, groups, packed}) {
      ExpectExact({{.layer_index = 1,
                    .row_bytes = 8,
                    .row_ids = second,
                    .slice = &all,
                    .landing = landing}},
                  SplitStyle::kRuns);
      EXPECT_EQ(split_.parts().size(), 4 * 3);
    }
  }
}

TEST_F(SplitTest, SplitsSlicesOfEveryKind) {
  for (int round = 0; round < 200; ++round) {
    std::vector<ColumnRun> runs;
    for (uint32_t at = random_() % 4; at < kColumns && runs.size() < 8;) {
      const auto columns = static_cast<uint32_t>(std::min<uint64_t>(random_() % 5, kColumns - at));
      runs.push_back({at, columns});
      at += columns + random_() % 4;
    }
    const ColumnSlice slice = ColumnSlice::Create(runs, kColumns).value();
    if (slice.empty()) continue;
    Use(testing_cluster::Partitioned(scheme_, 1 + random_() % 24, 1));
    const std::vector<RowId> ids = Ids(1, slice, 1 + random_() % 100);
    const SplitRequest request{.layer_index = 1, .row_bytes = 8, .row_ids = ids, .slice = &slice};
    ExpectExact({request}, SplitStyle::kPlaces);
    ExpectExact({request}, SplitStyle::kRuns);
  }
}

TEST_F(SplitTest, SplitsIdsInAnyOrderByRanges) {
  const ColumnSlice all = ColumnSlice::All(kColumns);
  std::vector<RowId> ids = Ids(1, all, 100);
  std::vector<uint32_t> places(ids.size());
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<uint32_t>(places.size() - i);
  for (const bool shuffled : {false, true}) {
    if (shuffled) std::shuffle(ids.begin(), ids.end(), random_);
    const Landing plain, groups{.group_rows = 7, .group_stride_bytes = 100},
        listed{.places = places};
    for (const Landing& landing : {plain, groups, listed}) {
      ExpectExact({{.layer_index = 1, .row_bytes = 8, .row_ids = ids, .landing = landing}},
                  SplitStyle::kPlaces);
      EXPECT_EQ(split_.parts().size(), 4);
    }
  }
  const SplitRequest request{.layer_index = 1, .row_bytes = 8, .row_ids = ids};
  EXPECT_EQ(splitter_->Split({request}, SplitStyle::kRuns, &split_).code(),
            absl::StatusCode::kInvalidArgument);
}

// Distinct rows ordered by partition, as a wire without places wants them.
TEST_F(SplitTest, NeedsNoListWhereAPartLiesTogether) {
  std::vector<RowId> ids = Ids(0, ColumnSlice::All(kColumns), 50), ordered;
  for (const MapPiece& piece : map_->pieces()) {
    for (const RowId id : ids) {
      if (Holds(piece.rows[0], id)) ordered.push_back(id);
    }
  }
  ExpectExact({{.layer_index = 0, .row_bytes = 8, .row_ids = ordered}}, SplitStyle::kRuns);
  EXPECT_EQ(split_.parts().size(), 4);
  // In groups whose bounds are the parts'.
  ExpectExact({{.layer_index = 0,
                .row_bytes = 8,
                .row_ids = ordered,
                .landing = {.group_rows = 300, .group_stride_bytes = 2500}}},
              SplitStyle::kRuns);
}

TEST_F(SplitTest, OneStoreIsAskedForTheBatchAsItIs) {
  Use(testing_cluster::Partitioned(scheme_, 1, 2));
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const std::vector<RowId> ids = Ids(0, all, 10);
  ASSERT_EQ(splitter_->Split(
                {{.row_bytes = 8, .row_ids = ids, .slice = &all}, {.row_bytes = 8, .row_ids = ids}},
                SplitStyle::kPlaces, &split_),
            absl::OkStatus());
  ASSERT_EQ(split_.parts().size(), 1);
  for (const PartLayer& layer : split_.parts()[0].layers) {
    EXPECT_EQ(layer.row_ids.data(), ids.data());
    EXPECT_TRUE(layer.landing.places.empty());
  }
  EXPECT_EQ(*split_.parts()[0].layers[0].slice, all);
}

TEST_F(SplitTest, SplitsTokensIntoSlices) {
  const ColumnSlice slice = ColumnSlice::Create({{0, 3}, {8, 2}}, kColumns).value();
  std::vector<std::byte> buffer(1000);
  const SplitRequest request{
      .row_bytes = 8, .slice = &slice, .tokens = 20, .landing = {.data = buffer.data()}};
  ASSERT_EQ(splitter_->Split({request}, SplitStyle::kRuns, &split_), absl::OkStatus());
  // Partition 0 has columns 0..1 and 8..9, partition 1 has column 2.
  ASSERT_EQ(split_.parts().size(), 3);
  const PartLayer& second = split_.parts()[1].layers[0];
  EXPECT_EQ(split_.parts()[1].piece, 0);
  EXPECT_EQ(*second.slice, ColumnSlice::Create({{8, 2}}, kColumns).value());
  EXPECT_TRUE(second.row_ids.empty());
  EXPECT_EQ(second.rows, 40);
  EXPECT_EQ(second.landing.data, buffer.data() + 3 * 8);
  EXPECT_EQ(second.landing.group_rows, 2);
  EXPECT_EQ(second.landing.group_stride_bytes, 5 * 8);
  EXPECT_EQ(*split_.parts()[2].layers[0].slice, ColumnSlice::Create({{2, 1}}, kColumns).value());
  ASSERT_EQ(splitter_->Split({request}, SplitStyle::kPlaces, &split_), absl::OkStatus());
  ASSERT_EQ(split_.parts().size(), 2);
  EXPECT_EQ(*split_.parts()[0].layers[0].slice,
            ColumnSlice::Create({{0, 2}, {8, 2}}, kColumns).value());
  EXPECT_EQ(split_.parts()[0].layers[0].landing.places.size(), 80);
}

// A slice has eight runs at most, the columns of a store as many as there are.
TEST_F(SplitTest, ColumnsOfManyRunsAreSeveralSlices) {
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 2, 1);
  for (uint32_t store = 0; store < 2; ++store) {
    for (size_t i = 0; i < scheme_.layers.size(); ++i) {
      HeldLayer& held = heard[store].sets[0].layers[i].rows;
      held.ranges.clear();
      for (uint32_t c = store; c < kColumns; c += 2) {
        held.ranges.push_back({scheme_.layers[i].offsets[c], scheme_.layers[i].moduli[c]});
      }
    }
  }
  Use(heard);
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const std::vector<RowId> first = Ids(0, all, 70), second = Ids(1, all, 70);
  ExpectExact({{.layer_index = 0, .row_bytes = 8, .row_ids = first, .slice = &all},
               {.layer_index = 1, .row_bytes = 8, .row_ids = second, .slice = &all}},
              SplitStyle::kPlaces);
  ASSERT_EQ(split_.parts().size(), 4);
  for (const SplitPart& part : split_.parts()) {
    ASSERT_EQ(part.layers.size(), 2);
    EXPECT_EQ(part.layers[0].slice->runs().size(), part.rows == 2 * 70 * 8 ? 8 : 4);
  }
}

TEST_F(SplitTest, RowsOfNobodyAreAPart) {
  std::vector<StoreState> heard = testing_cluster::Partitioned(scheme_, 4, 1);
  heard.erase(heard.begin() + 1);
  Use(heard);
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const std::vector<RowId> ids = Ids(0, all, 10);
  ExpectExact({{.row_bytes = 8, .row_ids = ids, .slice = &all}}, SplitStyle::kPlaces);
  ASSERT_EQ(split_.parts().size(), 4);
  EXPECT_TRUE(map_->pieces()[split_.parts()[1].piece].stores.empty());
}

TEST_F(SplitTest, RefusesWhatDoesNotFit) {
  const ColumnSlice all = ColumnSlice::All(kColumns), other = ColumnSlice::All(23);
  const std::vector<RowId> ids = Ids(0, all, 2);
  const auto code = [&](const SplitRequest& request) {
    return splitter_->Split({request}, SplitStyle::kPlaces, &split_).code();
  };
  EXPECT_EQ(code({.layer_index = 2, .row_ids = ids}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.row_ids = ids, .slice = &other}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.row_ids = absl::MakeConstSpan(ids).first(25), .slice = &all}),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.slice = &all, .tokens = uint64_t{1} << 32}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code({.row_ids = {}}), absl::StatusCode::kOk);
  EXPECT_TRUE(split_.parts().empty());
}

// What a split points to stays until it is used again, whatever else is split.
TEST_F(SplitTest, SplitsDoNotDisturbEachOther) {
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const std::vector<RowId> small = Ids(0, all, 4), large = Ids(0, all, 5000);
  BatchSplit other;
  ASSERT_EQ(splitter_->Split({{.row_bytes = 8, .row_ids = small, .slice = &all}},
                             SplitStyle::kPlaces, &other),
            absl::OkStatus());
  const absl::Span<const uint32_t> places = other.parts()[3].layers[0].landing.places;
  const std::vector<uint32_t> before(places.begin(), places.end());
  ASSERT_EQ(splitter_->Split({{.row_bytes = 8, .row_ids = large, .slice = &all}},
                             SplitStyle::kPlaces, &split_),
            absl::OkStatus());
  splitter_.reset();
  EXPECT_EQ(before, std::vector<uint32_t>(places.begin(), places.end()));
  EXPECT_EQ(other.parts()[3].layers[0].slice->columns(), 6);
}

TEST_F(SplitTest, AllocatesNothingWhenWarm) {
  const ColumnSlice all = ColumnSlice::All(kColumns);
  const std::vector<RowId> ids = Ids(0, all, 500);
  std::vector<std::byte> memory(8 * ids.size());
  const std::vector<SplitRequest> by_columns = {{.row_bytes = 8,
                                                 .row_ids = ids,
                                                 .slice = &all,
                                                 .landing = {.data = memory.data()}}},
                                  by_ranges = {{.row_bytes = 8, .row_ids = ids}};
  uint64_t before = 0;
  for (int round = 0; round < 3; ++round) {
    if (round == 1) before = testing::Allocations();
    ASSERT_TRUE(splitter_->Split(by_columns, SplitStyle::kPlaces, &split_).ok());
    ASSERT_TRUE(splitter_->Split(by_columns, SplitStyle::kRuns, &split_).ok());
    ASSERT_TRUE(splitter_->Split(by_ranges, SplitStyle::kPlaces, &split_).ok());
  }
  EXPECT_EQ(testing::Allocations(), before);
}

}  // namespace
}  // namespace engram
