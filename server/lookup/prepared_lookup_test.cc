#include "server/lookup/prepared_lookup.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/store/testing/small_table_set.h"
#include "memstore/table/synthetic.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

constexpr LookupLimits kLimits{.max_batch_rows = 10'000, .max_reply_bytes = 1 << 20};
// What the small table set's scheme is (small_table_set.cc): bigrams, one column.
constexpr uint64_t kLayerRows[] = {5000, 300};
uint64_t RowOf(int layer, uint64_t id, uint64_t previous) {
  return ((id * 3) ^ (previous * 5)) % kLayerRows[layer];
}

class PreparedLookupTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string directory = absl::StrCat(::testing::TempDir(), "/lookup_test_set");
    ASSERT_TRUE(testing::WriteSmallTableSet(
                    {.layers = {{.layer = 1, .row_bytes = 264, .rows = kLayerRows[0]},
                                {.layer = 14, .row_bytes = 16, .rows = kLayerRows[1]}}},
                    directory)
                    .ok());
    auto set = TableSet::Load(directory, {});
    ASSERT_TRUE(set.ok()) << set.status();
    set_ = new std::shared_ptr<const TableSet>(*std::move(set));
    team_ = GatherTeam::Create(2, "test").value().release();
  }
  static void TearDownTestSuite() {
    delete team_;
    delete set_;
  }

  static absl::StatusOr<PreparedLookup> Rows(const std::vector<WantedRows>& wanted,
                                             const LookupLimits& limits = kLimits) {
    PreparedLookup lookup;
    if (absl::Status status = lookup.PrepareRows(*set_, wanted, limits); !status.ok())
      return status;
    return lookup;
  }
  static std::string RowsError(const std::vector<WantedRows>& wanted,
                               const LookupLimits& limits = kLimits) {
    return Error(Rows(wanted, limits));
  }
  static absl::StatusOr<PreparedLookup> Tokens(const WantedTokens& wanted,
                                               const LookupLimits& limits = kLimits) {
    PreparedLookup lookup;
    absl::Status status = lookup.PrepareTokens(*set_, wanted, limits);
    if (!status.ok()) return status;
    return lookup;
  }
  static std::string TokensError(const WantedTokens& wanted, const LookupLimits& limits = kLimits) {
    return Error(Tokens(wanted, limits));
  }
  static std::string Error(const absl::StatusOr<PreparedLookup>& lookup) {
    EXPECT_EQ(lookup.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(lookup.status().message());
  }

  // Gathers layer `i` and compares it with the rows `ids`.
  static void ExpectRows(const PreparedLookup& lookup, size_t i, const std::vector<RowId>& ids) {
    const uint32_t row_bytes = set_->get()->FindLayer(lookup.layer(i))->table.row_bytes;
    ASSERT_EQ(lookup.LayerBytes(i), ids.size() * row_bytes);
    std::vector<std::byte> rows(lookup.LayerBytes(i));
    // In two parts, as replies in chunks do.
    const uint64_t half = ids.size() / 2;
    lookup.Gather(i, 0, half, *team_, rows.data());
    lookup.Gather(i, half, ids.size() - half, *team_, rows.data() + half * row_bytes);
    for (size_t r = 0; r < ids.size(); ++r) {
      EXPECT_TRUE(IsSyntheticRow(lookup.layer(i), ids[r], {&rows[r * row_bytes], row_bytes}))
          << "row " << r << " of layer " << lookup.layer(i);
    }
  }

  static std::shared_ptr<const TableSet>* set_;
  static GatherTeam* team_;
};

std::shared_ptr<const TableSet>* PreparedLookupTest::set_ = nullptr;
GatherTeam* PreparedLookupTest::team_ = nullptr;

TEST_F(PreparedLookupTest, GathersRowsOfBothWidthsInTheOrderAsked) {
  const std::vector<uint64_t> wide = {299, 0, 299, 7};
  const std::vector<uint32_t> narrow = {4999, 1, 0};
  const auto lookup = Rows({{.layer = 14, .ids64 = wide}, {.layer = 1, .ids32 = narrow}});
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  ASSERT_EQ(lookup->layers(), 2u);
  EXPECT_EQ(lookup->layer(0), 14u);
  EXPECT_EQ(lookup->RowsBytes(), 4u * 16 + 3u * 264);
  ExpectRows(*lookup, 0, {299, 0, 299, 7});
  ExpectRows(*lookup, 1, {4999, 1, 0});
}

TEST_F(PreparedLookupTest, AddressesTokensOfEverySequenceAfterItsLookback) {
  // One with a token before it, one from its start.
  const std::vector<int32_t> ids = {5, 6, 7, 99};
  const std::vector<uint32_t> tokens = {2, 1}, lookback = {1, 0};
  const auto lookup =
      Tokens({.token_ids = ids, .sequence_tokens = tokens, .sequence_lookback = lookback}, kLimits);
  ASSERT_TRUE(lookup.ok()) << lookup.status();
  ASSERT_EQ(lookup->layers(), 2u);
  for (int layer = 0; layer < 2; ++layer) {
    ExpectRows(*lookup, layer, {RowOf(layer, 6, 5), RowOf(layer, 7, 6), RowOf(layer, 99, 0)});
  }
  const std::vector<uint32_t> one_layer = {14};
  const auto one = Tokens({.layers = one_layer, .token_ids = ids}, kLimits);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->layers(), 1u);
  ExpectRows(*one, 0, {RowOf(1, 5, 0), RowOf(1, 6, 5), RowOf(1, 7, 6), RowOf(1, 99, 7)});
}

TEST_F(PreparedLookupTest, AddressesSequencesAfterTheWindowsThatTheirClientKept) {
  const std::vector<int32_t> ids = {6, 7, 99}, windows = {5, -1};
  const std::vector<uint32_t> tokens = {2, 1}, layers = {14, 1};
  const WantedSequences wanted{.layers = layers,
                               .sequence_tokens = tokens,
                               .lookback = 1,
                               .windows = windows,
                               .token_ids = ids};
  PreparedLookup lookup;
  absl::Status status = lookup.PrepareSequences(*set_, wanted, kLimits);
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_EQ(lookup.layers(), 2u);
  ExpectRows(lookup, 0, {RowOf(1, 6, 5), RowOf(1, 7, 6), RowOf(1, 99, 0)});
  ExpectRows(lookup, 1, {RowOf(0, 6, 5), RowOf(0, 7, 6), RowOf(0, 99, 0)});

  const auto refused = [&](auto change) {
    WantedSequences wrong = wanted;
    change(wrong);
    const absl::Status error = lookup.PrepareSequences(*set_, wrong, kLimits);
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << error;
    return std::string(error.message());
  };
  const std::vector<uint32_t> wrong_layers = {1, 2}, none = {2, 0}, few = {1, 1};
  EXPECT_THAT(refused([&](auto& w) { w.layers = wrong_layers; }), HasSubstr("no layer 2"));
  EXPECT_THAT(refused([&](auto& w) { w.sequence_tokens = none; }), HasSubstr("sequence 1"));
  EXPECT_THAT(refused([&](auto& w) { w.sequence_tokens = few; }), HasSubstr("2 tokens"));
  EXPECT_THAT(refused([&](auto& w) { w.lookback = 2; }), HasSubstr("looks back 1"));
  const std::vector<int32_t> low = {5, -2}, high = {1 << 30, 1}, bad_ids = {6, -7, 99};
  EXPECT_THAT(refused([&](auto& w) { w.windows = low; }), HasSubstr("window of sequence 1"));
  EXPECT_THAT(refused([&](auto& w) { w.windows = high; }), HasSubstr("window of sequence 0"));
  EXPECT_THAT(refused([&](auto& w) { w.token_ids = bad_ids; }), HasSubstr("sequence 0"));
  const std::vector<int32_t> few_windows = {5};
  EXPECT_THAT(refused([&](auto& w) { w.windows = few_windows; }), HasSubstr("give 1 for each"));
  const std::vector<uint8_t> mask = {0, 1};
  EXPECT_THAT(refused([&](auto& w) { w.dead = mask; }), HasSubstr("dead mask of 2"));
}

TEST_F(PreparedLookupTest, AddressesTheColumnsOfASliceAlone) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/lookup_test_columns");
  constexpr uint64_t kColumnRows = 1000;
  constexpr uint32_t kColumns = 5;
  ASSERT_TRUE(
      testing::WriteSmallTableSet({.layers = {{.layer = 1, .rows = kColumns * kColumnRows},
                                              {.layer = 14, .rows = kColumns * kColumnRows}},
                                   .columns = kColumns},
                                  directory)
          .ok());
  const auto set = TableSet::Load(directory, {}).value();
  const std::vector<int32_t> ids = {6, 7, 99}, windows = {5, -1};
  const std::vector<uint32_t> tokens = {2, 1}, layers = {14, 1};
  const ColumnRun apart[] = {{0, 1}, {3, 2}}, one[] = {{2, 1}}, none[] = {{2, 0}};
  const std::vector<ColumnSlice> slices = {ColumnSlice::Create(apart, kColumns, 14).value(),
                                           ColumnSlice::Create(one, kColumns).value()};
  WantedSequences wanted{.layers = layers,
                         .sequence_tokens = tokens,
                         .lookback = 1,
                         .windows = windows,
                         .token_ids = ids,
                         .slices = slices};
  PreparedLookup lookup;
  const absl::Status status = lookup.PrepareSequences(set, wanted, kLimits);
  ASSERT_TRUE(status.ok()) << status;
  const auto row = [](uint64_t id, uint64_t previous, uint64_t column) {
    return ((id * 3) ^ (previous * 5)) % kColumnRows + column * kColumnRows;
  };
  const std::vector<std::vector<RowId>> expected = {
      {row(6, 5, 0), row(6, 5, 3), row(6, 5, 4), row(7, 6, 0), row(7, 6, 3), row(7, 6, 4),
       row(99, 0, 0), row(99, 0, 3), row(99, 0, 4)},
      {row(6, 5, 2), row(7, 6, 2), row(99, 0, 2)}};
  for (size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(lookup.rows(i), expected[i].size());
    EXPECT_EQ(lookup.Wanted(i, 0, lookup.rows(i)).ids64, absl::MakeConstSpan(expected[i]));
  }
  const auto refused = [&](const std::vector<ColumnSlice>& wrong) {
    wanted.slices = wrong;
    const absl::Status error = lookup.PrepareSequences(set, wanted, kLimits);
    EXPECT_EQ(error.code(), absl::StatusCode::kInvalidArgument) << error;
    return std::string(error.message());
  };
  EXPECT_THAT(refused({slices[0]}), HasSubstr("1 slices of columns for 2 layers"));
  EXPECT_THAT(refused({slices[1], slices[0]}), HasSubstr("layer 1: "));  // of layer 14 alone
  EXPECT_THAT(refused({slices[0], ColumnSlice::Create(none, kColumns).value()}),
              HasSubstr("layer 1: its slice has no columns"));
  EXPECT_THAT(refused({slices[0], ColumnSlice::All(kColumns + 1)}), HasSubstr("layer 1: "));
}

TEST_F(PreparedLookupTest, NamesTheRowIdThatIsOutOfRange) {
  const std::vector<uint32_t> narrow = {1, 2, 5000};
  EXPECT_THAT(
      RowsError({{.layer = 1, .ids32 = narrow}}),
      HasSubstr("layer 1: row id 5000 at index 2 is outside the table, which has 5000 rows"));
  const std::vector<uint64_t> wide = {UINT64_MAX};
  EXPECT_THAT(RowsError({{.layer = 14, .ids64 = wide}}),
              HasSubstr("layer 14: row id 18446744073709551615 at index 0"));
}

TEST_F(PreparedLookupTest, RefusesShapesThatAreNotOne) {
  const std::vector<uint32_t> ids = {1};
  const std::vector<uint64_t> wide = {1};
  EXPECT_THAT(RowsError({}), HasSubstr("the batch is empty"));
  EXPECT_THAT(RowsError({{.layer = 2, .ids32 = ids}}),
              HasSubstr("has no layer 2: ask for one of 1, 14"));
  EXPECT_THAT(RowsError({{.layer = 1}}), HasSubstr("layer 1: it has no row ids"));
  EXPECT_THAT(RowsError({{.layer = 1, .ids32 = ids}, {.layer = 1, .ids32 = ids}}),
              HasSubstr("layer 1: is asked for twice"));
  EXPECT_THAT(RowsError({{.layer = 1, .ids32 = ids, .ids64 = wide}}),
              HasSubstr("layer 1: row_ids32 and row_ids64 are both given"));
}

TEST_F(PreparedLookupTest, RefusesMoreThanItsLimitsAndSaysHowMuchFits) {
  const std::vector<uint32_t> ids(101, 3);
  EXPECT_THAT(RowsError({{.layer = 1, .ids32 = ids}}, {100, 1 << 20}),
              HasSubstr("the batch has 101 rows: split it, at most 100 rows a batch"));
  // 10,000 bytes less the framing (160), by 264.
  EXPECT_THAT(RowsError({{.layer = 1, .ids32 = ids}}, {1000, 10'000}),
              HasSubstr("split the batch, at most 37 rows of these layers a request"));
  const std::vector<int32_t> tokens(60, 1);
  EXPECT_THAT(TokensError({.token_ids = tokens}, {100, 1 << 20}), HasSubstr("120 rows"));
  EXPECT_THAT(TokensError({.token_ids = tokens}, {1000, 10'000}), HasSubstr("split the batch"));
}

TEST_F(PreparedLookupTest, RefusesTokenBatchesThatDoNotAddUp) {
  const std::vector<int32_t> ids = {5, 6, 7};
  const std::vector<uint32_t> one = {1}, two = {2}, three = {3}, none = {0}, two_ones = {1, 1};
  EXPECT_THAT(TokensError({}), HasSubstr("the batch is empty"));
  EXPECT_THAT(TokensError({.token_ids = ids, .sequence_tokens = three}),
              HasSubstr("sequence_tokens names 1 sequences and tokens.sequence_lookback 0"));
  EXPECT_THAT(
      TokensError({.token_ids = ids, .sequence_tokens = two_ones, .sequence_lookback = one}),
      HasSubstr("sequence_tokens names 2 sequences and tokens.sequence_lookback 1"));
  EXPECT_THAT(TokensError({.token_ids = ids, .sequence_tokens = three, .sequence_lookback = one}),
              HasSubstr("name 4 tokens, lookback included, but tokens.token_ids holds 3"));
  EXPECT_THAT(TokensError({.token_ids = ids, .sequence_tokens = one, .sequence_lookback = two}),
              HasSubstr("sequence 0 has 2 lookback tokens: the table set looks back 1 at most"));
  EXPECT_THAT(TokensError({.token_ids = ids, .sequence_tokens = none, .sequence_lookback = none}),
              HasSubstr("sequence 0 asks for no token"));
}

TEST_F(PreparedLookupTest, RefusesWrongLayersMasksAndTokenIds) {
  const std::vector<int32_t> ids = {5, 6, 7};
  const std::vector<uint32_t> descending = {14, 1}, twice = {1, 1}, unknown = {3};
  EXPECT_THAT(TokensError({.layers = descending, .token_ids = ids}), HasSubstr("must ascend"));
  EXPECT_THAT(TokensError({.layers = twice, .token_ids = ids}), HasSubstr("asked for twice"));
  EXPECT_THAT(TokensError({.layers = unknown, .token_ids = ids}), HasSubstr("no layer 3"));
  const std::vector<uint8_t> short_mask = {0, 1}, mask = {0, 1, 0};
  EXPECT_THAT(TokensError({.token_ids = ids, .dead = short_mask}),
              HasSubstr("dead_mask has 2 bytes for 3 token ids"));
  EXPECT_THAT(TokensError({.token_ids = ids, .dead = mask}), HasSubstr("dead"));
  const std::vector<int32_t> beyond = {5, 100}, negative = {-1};
  EXPECT_THAT(TokensError({.token_ids = beyond}), HasSubstr("tokens of sequence 0: token id 100"));
  EXPECT_THAT(TokensError({.token_ids = negative}), HasSubstr("token id -1"));
  const std::vector<uint32_t> one = {1};
  EXPECT_THAT(TokensError({.token_ids = {-7, 5}, .sequence_tokens = one, .sequence_lookback = one}),
              HasSubstr("lookback of sequence 0: token id -7"));
}

// By tokens with their lookback, and after windows that the client kept.
TEST_F(PreparedLookupTest, AnImagesTokenIsRefusedUnlessItIsDeadOrAllowed) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/lookup_test_images");
  const testing::SmallTableSet small = {.dead_positions = true, .image_token_ids = {98}};
  ASSERT_TRUE(testing::WriteSmallTableSet(small, directory).ok());
  const auto set = TableSet::Load(directory, {}).value();
  const std::vector<int32_t> ids = {5, 6, 98, 7}, windows = {-1};
  const std::vector<uint8_t> mask = {0, 0, 1, 0};
  const std::vector<uint32_t> layers = {1}, tokens = {4};
  PreparedLookup lookup;
  const auto by_tokens = [&](const std::vector<uint8_t>& dead, bool allow) {
    return lookup.PrepareTokens(
        set, {.token_ids = ids, .dead = dead, .allow_unmasked_images = allow}, kLimits);
  };
  const auto by_sequences = [&](const std::vector<uint8_t>& dead, bool allow) {
    return lookup.PrepareSequences(set,
                                   {.layers = layers,
                                    .sequence_tokens = tokens,
                                    .lookback = 1,
                                    .windows = windows,
                                    .token_ids = ids,
                                    .dead = dead,
                                    .allow_unmasked_images = allow},
                                   kLimits);
  };
  const auto rows = [&](const std::vector<RowId>& expected) {
    EXPECT_EQ(lookup.Wanted(0, 0, lookup.rows(0)).ids64, absl::MakeConstSpan(expected));
  };
  const RowId first = RowOf(0, 5, 0), second = RowOf(0, 6, 5);
  const auto expect = [&](const auto& prepare) {
    const absl::Status refused = prepare({}, false);
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.message()), HasSubstr("sequence 0: token id 98 at position 2"));
    EXPECT_THAT(std::string(refused.message()), HasSubstr("allow_unmasked_images"));
    ASSERT_TRUE(prepare({}, true).ok());
    rows({first, second, RowOf(0, 98, 6), RowOf(0, 7, 98)});
    for (const bool allow : {false, true}) {
      ASSERT_TRUE(prepare(mask, allow).ok());
      rows({first, second, RowOf(0, 0, 0), RowOf(0, 7, 0)});
    }
  };
  expect(by_tokens);
  expect(by_sequences);
  // In the lookback, which rows of the next token are made from.
  const std::vector<uint32_t> one = {1};
  EXPECT_THAT(
      std::string(lookup
                      .PrepareTokens(
                          set,
                          {.token_ids = {98, 7}, .sequence_tokens = one, .sequence_lookback = one},
                          kLimits)
                      .message()),
      HasSubstr("lookback of sequence 0: token id 98"));
}

TEST_F(PreparedLookupTest, PinsItsTableSet) {
  const std::vector<uint32_t> ids = {1};
  const long before = set_->use_count();
  {
    const auto lookup = Rows({{.layer = 1, .ids32 = ids}});
    ASSERT_TRUE(lookup.ok());
    EXPECT_EQ(set_->use_count(), before + 1);
  }
  EXPECT_EQ(set_->use_count(), before);
}

// Columns 0 and 1 of 2,500 and 150 rows, of which the second is held.
class PartialLookupTest : public ::testing::Test {
 protected:
  PartialLookupTest() {
    const std::string directory = absl::StrCat(::testing::TempDir(), "/partial_lookup_test");
    testing::WriteSmallTableSet({.layers = {{.layer = 1, .row_bytes = 264, .rows = kLayerRows[0]},
                                            {.layer = 14, .row_bytes = 16, .rows = kLayerRows[1]}},
                                 .columns = 2},
                                directory)
        .value();
    LoadOptions options;
    options.partition = PartitionIndex{1, 2};
    set_ = TableSet::Load(directory, options).value();
  }
  absl::Status Tokens(absl::Span<const ColumnSlice> slices) {
    const std::vector<int32_t> ids = {5, 6, 7};
    PreparedLookup lookup;
    return lookup.PrepareTokens(set_, {.token_ids = ids, .slices = slices}, kLimits);
  }
  static ColumnSlice Slice(uint32_t first, uint32_t columns) {
    return ColumnSlice::Create({{first, columns}}, 2).value();
  }
  static void ExpectNotHeld(const absl::Status& status, const std::string& rows) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(rows));
    EXPECT_THAT(std::string(status.message()), HasSubstr("columns 1..1"));
  }

  std::shared_ptr<const TableSet> set_;
};

TEST_F(PartialLookupTest, RowsThatAreNotHeldAreRefusedInEitherWidth) {
  const std::vector<uint32_t> narrow = {2500, 4999}, wrong_narrow = {2500, 2499};
  const std::vector<uint64_t> wide = {150}, wrong_wide = {0};
  PreparedLookup lookup;
  EXPECT_TRUE(lookup
                  .PrepareRows(set_,
                               {{{.layer = 1, .ids32 = narrow}, {.layer = 14, .ids64 = wide}}},
                               kLimits)
                  .ok());
  ExpectNotHeld(lookup.PrepareRows(set_, {{{.layer = 1, .ids32 = wrong_narrow}}}, kLimits),
                "layer 1: row 2499 (index 1) is not held here, of the layer's 5000 rows these are: "
                "[2500, 5000)");
  ExpectNotHeld(
      lookup.PrepareRows(
          set_, {{{.layer = 1, .ids32 = narrow}, {.layer = 14, .ids64 = wrong_wide}}}, kLimits),
      "[150, 300)");
}

TEST_F(PartialLookupTest, TokensAreLookedUpInColumnsThatAreHeld) {
  const ColumnSlice held[] = {Slice(1, 1), Slice(1, 1)};
  EXPECT_TRUE(Tokens(held).ok());
  const ColumnSlice one_layer[] = {Slice(1, 1), Slice(0, 0)};
  EXPECT_TRUE(Tokens(one_layer).ok());
  const ColumnSlice other[] = {Slice(1, 1), Slice(0, 1)};
  ExpectNotHeld(Tokens(other), "layer 14");
  const ColumnSlice all[] = {Slice(0, 2), Slice(0, 2)};
  ExpectNotHeld(Tokens(all), "layer 1");
  ExpectNotHeld(Tokens({}), "[2500, 5000)");
}

}  // namespace
}  // namespace engram
