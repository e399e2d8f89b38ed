#include "client/transport/batch_check.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "proto/wire/version.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kRowBytes = 264;
constexpr uint32_t kColumns = 4;

class BatchCheckTest : public ::testing::Test {
 protected:
  BatchCheckTest() {
    manifest_.name = "small";
    manifest_.scheme.max_order = 3;
    manifest_.scheme.heads_per_order = 2;
    AddLayer(1, 100);
    AddLayer(4, 50);
  }

  void AddLayer(uint32_t layer, uint64_t rows) {
    LayerTableSpec& spec = manifest_.layers.emplace_back();
    spec.layer = layer;
    spec.rows = rows;
    spec.row_bytes = kRowBytes;
  }
  LayerRequest Layer(uint32_t layer) {
    return {.layer = layer, .row_ids = ids_, .landing = {.data = buffer_.data()}};
  }
  absl::Status Check(const BatchRequest& batch) const {
    return CheckBatch(batch, manifest_, capabilities_, clock_);
  }
  absl::Status Check(const std::vector<LayerRequest>& layers) const {
    return Check(BatchRequest{.layers = layers});
  }
  absl::Status CheckTokens(const TokenBatch& tokens, LayerRequest layer) const {
    layer.row_ids = {};
    return Check(BatchRequest{.layers = {&layer, 1}, .tokens = &tokens});
  }
  void ExpectInvalid(const absl::Status& status, const std::string& thing,
                     const std::string& fix) const {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(thing), HasSubstr(fix)));
  }

  FakeClock clock_;
  Manifest manifest_;
  Capabilities capabilities_ = {.name = "test",
                                .lands_asynchronously = true,
                                .max_batch_rows = 8,
                                .max_sequence_tokens = 3,
                                .lands_at_places = true};
  std::vector<RowId> ids_ = {0, 49, 7, 7};
  std::vector<std::byte> buffer_ = std::vector<std::byte>(8);  // nothing is written
};

TEST_F(BatchCheckTest, TakesWhatIsRight) {
  EXPECT_TRUE(Check({Layer(4), Layer(1)}).ok());
  LayerRequest grouped = Layer(1);
  grouped.landing.group_rows = 2;
  grouped.landing.group_stride_bytes = 2 * kRowBytes;
  EXPECT_TRUE(Check({grouped}).ok());
  const std::vector<uint32_t> places = {3, 0, 9, 1};
  grouped.landing.places = places;
  EXPECT_TRUE(Check({grouped}).ok());
}

TEST_F(BatchCheckTest, NamesWhatIsWrongWithTheBatch) {
  ExpectInvalid(Check(std::vector<LayerRequest>{}), "the batch is empty", "ask for");
  ExpectInvalid(Check({Layer(1), Layer(4), Layer(1)}), "layer 1 is named twice", "merge");
  ExpectInvalid(Check({Layer(2)}), "layer 2", "which has layers 1 4");
  capabilities_.max_batch_rows = 7;
  EXPECT_TRUE(Check({Layer(1)}).ok());
  ExpectInvalid(Check({Layer(1), Layer(4)}), "8 rows, more than the 7", "split it");
}

TEST_F(BatchCheckTest, NamesWhatIsWrongWithALayersRows) {
  LayerRequest none = Layer(4);
  none.row_ids = {};
  ExpectInvalid(Check({Layer(1), none}), "layer 4: no row ids", "leave the layer out");
  ids_[2] = 50;
  EXPECT_TRUE(Check({Layer(1)}).ok());
  ExpectInvalid(Check({Layer(4)}), "layer 4: row id 50 at index 2", "50 rows; address with");
}

TEST_F(BatchCheckTest, NamesWhatIsWrongWithALanding) {
  LayerRequest layer = Layer(1);
  layer.landing.data = nullptr;
  ExpectInvalid(Check({layer}), "layer 1: no landing buffer", "set landing.data");
  layer = Layer(1);
  layer.landing.group_rows = 2;
  layer.landing.group_stride_bytes = 2 * kRowBytes - 1;
  ExpectInvalid(Check({layer}), "layer 1: a group of 2 rows", "give a stride");
  layer.landing.group_stride_bytes = std::numeric_limits<uint64_t>::max();
  ExpectInvalid(Check({layer}), "layer 1", "beyond any memory");
  const std::vector<uint32_t> places = {3, 0, 9};
  layer = Layer(1);
  layer.landing.places = places;
  ExpectInvalid(Check({layer}), "layer 1: the landing lists 3 places for 4 rows", "one for each");
}

TEST_F(BatchCheckTest, PlacesAreForTransportsThatLandAtThem) {
  const std::vector<uint32_t> places = {3, 0, 9, 1};
  LayerRequest layer = Layer(1);
  layer.landing.places = places;
  capabilities_.lands_at_places = false;
  const absl::Status status = Check({layer});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("layer 1"), HasSubstr("test"), HasSubstr("in the order")));
}

TEST_F(BatchCheckTest, ABatchByTokensHasSequencesOfItsTokens) {
  const std::vector<int32_t> ids = {1, 2};
  const std::vector<uint8_t> dead = {0, 1};
  std::vector<SequenceTokens> sequences = {{{}, 1}, {{}, 1}};
  EXPECT_TRUE(CheckTokens({sequences, ids, dead}, Layer(1)).ok());
  EXPECT_TRUE(CheckTokens({sequences, ids, {}}, Layer(1)).ok());
  ExpectInvalid(CheckTokens({sequences, ids, {dead.data(), 1}}, Layer(1)), "1 bytes of dead mask",
                "or no mask");
  ExpectInvalid(CheckTokens({{sequences.data(), 1}, ids, {}}, Layer(1)), "sequences have 1 tokens",
                "one of each");
  sequences[1].tokens = 0;
  ExpectInvalid(CheckTokens({sequences, ids, {}}, Layer(1)), "sequence 1 has 0 tokens", "1 to 3");
  sequences[1].tokens = 4;
  ExpectInvalid(CheckTokens({sequences, ids, {}}, Layer(1)), "sequence 1 has 4 tokens", "in parts");
  capabilities_.max_sequence_tokens = 0;
  EXPECT_EQ(CheckTokens({sequences, ids, {}}, Layer(1)).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(BatchCheckTest, ABatchByTokensLandsATokensColumnsTogether) {
  const std::vector<int32_t> ids = {1, 2};
  const std::vector<SequenceTokens> sequences = {{{}, 2}};
  const TokenBatch tokens = {sequences, ids, {}};
  LayerRequest layer = Layer(1);
  layer.landing.group_stride_bytes = kColumns * kRowBytes;
  layer.landing.group_rows = kColumns;
  EXPECT_TRUE(CheckTokens(tokens, layer).ok());
  layer.landing.group_rows = 2;
  ExpectInvalid(CheckTokens(tokens, layer), "groups of 2 rows", "a token's 4 rows");
  const std::vector<uint32_t> places = {0, 1, 2, 3, 4, 5, 6, 7};
  layer = Layer(1);
  layer.landing.places = places;
  ExpectInvalid(CheckTokens(tokens, layer), "a list of places", "leave it out");
  capabilities_.tokens_at_places = true;
  EXPECT_TRUE(CheckTokens(tokens, layer).ok());
  layer.landing.places = absl::MakeConstSpan(places).first(7);
  EXPECT_EQ(CheckTokens(tokens, layer).code(), absl::StatusCode::kInvalidArgument);
  layer = Layer(1);
  ExpectInvalid(Check(BatchRequest{.layers = {&layer, 1}, .tokens = &tokens}), "row ids in a batch",
                "give one of the two");
  capabilities_.max_batch_rows = 7;
  ExpectInvalid(CheckTokens(tokens, layer), "8 rows", "split it");
}

class SlicesCheckTest : public BatchCheckTest {
 protected:
  SlicesCheckTest() {
    // Layer 1: columns of 10, 20, 30 and 40 rows. Layer 4: of 5, 10, 15 and 20.
    manifest_.scheme.layers = {{1, {}, {10, 20, 30, 40}, {0, 10, 30, 60}},
                               {4, {}, {5, 10, 15, 20}, {0, 5, 15, 30}}};
    capabilities_.token_slices = true;
  }
  LayerRequest Sliced(uint32_t layer, const ColumnSlice& slice, const std::vector<RowId>& ids) {
    return {.layer = layer, .row_ids = ids, .landing = {.data = buffer_.data()}, .slice = &slice};
  }
  static ColumnSlice Slice(const std::vector<ColumnRun>& runs,
                           std::optional<uint32_t> layer = std::nullopt) {
    return ColumnSlice::Create(runs, kColumns, layer).value();
  }
  const ColumnSlice all_ = ColumnSlice::All(kColumns), ends_ = Slice({{0, 1}, {3, 1}}),
                    none_ = Slice({});
};

TEST_F(SlicesCheckTest, HoldsIdsAgainstTheirColumns) {
  const std::vector<RowId> of_all = {9, 29, 30, 99}, of_ends = {0, 60, 9, 99};
  EXPECT_TRUE(Check({Sliced(1, all_, of_all)}).ok());
  EXPECT_TRUE(Check({Sliced(1, ends_, of_ends)}).ok());
  ExpectInvalid(Check({Sliced(1, ends_, of_all)}), "layer 1: row id 29 at index 1 (token 0, col",
                "local to a head?");
  ExpectInvalid(Check({Sliced(1, all_, {0, 45, 30, 60})}), "row id 45 at index 1", "of column 2");
  ExpectInvalid(Check({Sliced(1, all_, {0, 10, 5, 60})}), "row id 5", "local to a head?");
  ExpectInvalid(Check({Sliced(1, all_, {0, 20, 70, 60})}), "row id 70", "offset added twice?");
  ExpectInvalid(Check({Sliced(1, all_, {0, 10, 30, 100})}), "row id 100", "beyond the table");
  ExpectInvalid(Check({Sliced(1, all_, {0, 10, 30, ~RowId{0}})}), "row id 1844",
                "beyond the table");
  // Without a slice they are rows like any others.
  const std::vector<RowId> mixed = {0, 45, 5, 70};
  EXPECT_TRUE(Check({{.layer = 1, .row_ids = mixed, .landing = {.data = buffer_.data()}}}).ok());
}

TEST_F(SlicesCheckTest, ASliceIsOfItsLayer) {
  const std::vector<RowId> ids = {0, 60};
  const ColumnSlice of_four = Slice({{0, 1}, {3, 1}}, 4);
  ExpectInvalid(Check({Sliced(1, of_four, ids)}), "slice of layer 4", "layer 1");
  const ColumnSlice wider = ColumnSlice::Create({{{0, 1}, {3, 1}}}, kColumns + 1).value();
  ExpectInvalid(Check({Sliced(1, wider, ids)}), "layer of 5 columns", "has 4");
  ExpectInvalid(Check({Sliced(1, ends_, {0, 60, 1})}), "3 row ids are not whole tokens",
                "2 columns");
  ExpectInvalid(Check({Sliced(1, ends_, {})}), "no row ids", "ask for rows");
}

TEST_F(SlicesCheckTest, ASliceOfNoColumnsAsksForNothing) {
  LayerRequest nothing = {.layer = 1, .row_ids = {}, .landing = {}, .slice = &none_};
  EXPECT_TRUE(Check({nothing}).ok());
  EXPECT_TRUE(Check({nothing, Layer(4)}).ok());
  const std::vector<RowId> one = {0};
  nothing.row_ids = one;
  ExpectInvalid(Check({nothing}), "layer 1: 1 row ids", "0 columns");
  nothing.row_ids = {};
  nothing.layer = 2;
  ExpectInvalid(Check({nothing}), "layer 2", "not in table set");
}

TEST_F(SlicesCheckTest, TokensHaveASliceALayerWhereTheOwnerTakesThem) {
  const std::vector<int32_t> ids = {1, 2};
  const std::vector<SequenceTokens> sequences = {{Addresser::Start(), 2}};
  LayerRequest layers[2] = {{.layer = 1, .row_ids = {}, .landing = {.data = buffer_.data()}},
                            {.layer = 4, .row_ids = {}, .landing = {}}};
  const auto check = [&](absl::Span<const ColumnSlice> slices) {
    const TokenBatch tokens = {sequences, ids, {}, slices};
    return Check(BatchRequest{.layers = layers, .tokens = &tokens});
  };
  capabilities_.max_batch_rows = 4;
  EXPECT_TRUE(check({{ends_, none_}}).ok());  // 2 tokens of 2 columns
  ExpectInvalid(check({{all_, none_}}), "8 rows, more than the 4", "split it");
  ExpectInvalid(check({&ends_, 1}), "1 slices of columns for 2 layers", "one for each");
  ExpectInvalid(check({{ends_, ends_}}), "layer 4: no landing buffer", "set landing");
  ExpectInvalid(check({{Slice({{0, 1}}, 4), none_}}), "slice of layer 4", "layer 1");
  layers[0].landing.group_rows = kColumns;
  layers[0].landing.group_stride_bytes = kColumns * kRowBytes;
  ExpectInvalid(check({{ends_, none_}}), "groups of 4 rows", "a token's 2 rows");
  layers[0].landing = {.data = buffer_.data()};
  layers[0].slice = &ends_;
  ExpectInvalid(check({{ends_, none_}}), "a slice for row ids", "with the tokens");
  layers[0].slice = nullptr;
  capabilities_.token_slices = false;
  capabilities_.owner_version = "0.0.9";
  const absl::Status status = check({{ends_, none_}});
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("token_slices"), HasSubstr("0.0.9"), HasSubstr(kEngramVersion),
                    HasSubstr("upgrade the owner")));
}

TEST_F(BatchCheckTest, AStateHoldsWhatTravelsIn32Bits) {
  manifest_.scheme.max_order = 3;
  const std::vector<int32_t> ids = {1};
  SequenceTokens sequence = {Addresser::Start(), 1};
  for (const int64_t id : {int64_t{-1}, int64_t{1} << 31, (int64_t{1} << 32) + 5}) {
    sequence.state.ids[1] = id;
    ExpectInvalid(CheckTokens({{&sequence, 1}, ids, {}}, Layer(1)), "the state of sequence 0",
                  "compressed ids");
  }
  sequence.state.ids[1] = std::numeric_limits<int32_t>::max();
  sequence.state.ids[2] = -1;  // behind the window
  EXPECT_TRUE(CheckTokens({{&sequence, 1}, ids, {}}, Layer(1)).ok());
}

TEST_F(BatchCheckTest, AStateIsOfTheSetThatIsAsked) {
  manifest_.id = std::string(64, 'a');
  const std::vector<int32_t> ids = {1};
  SequenceTokens sequence = {Addresser::Start(), 1};
  EXPECT_TRUE(CheckTokens({{&sequence, 1}, ids, {}}, Layer(1)).ok());
  sequence.state.set = ShortSetId::Of(manifest_.id);
  EXPECT_TRUE(CheckTokens({{&sequence, 1}, ids, {}}, Layer(1)).ok());
  sequence.state.set = ShortSetId::Of(std::string(64, 'b'));
  const absl::Status status = CheckTokens({{&sequence, 1}, ids, {}}, Layer(1));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("sequence 0"), HasSubstr("aaaaaaaaaaaaaaaa"),
                    HasSubstr("bbbbbbbbbbbbbbbb"), HasSubstr("start the sequence again")));
}

TEST_F(BatchCheckTest, ADeadlineThatHasComeIsRefused) {
  const std::vector<LayerRequest> layers = {Layer(1)};
  const MonotonicTime soon = clock_.After(absl::Nanoseconds(1));
  EXPECT_TRUE(Check(BatchRequest{.layers = layers, .deadline = soon}).ok());
  clock_.Advance(absl::Nanoseconds(1));
  const absl::Status status = Check(BatchRequest{.layers = layers, .deadline = soon});
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("give it a later one"));
  EXPECT_TRUE(Check(layers).ok());
}

TEST_F(BatchCheckTest, WhoReadsRowsAsksWhetherTheyAreHeld) {
  AttachedTableSet set{.manifest = manifest_, .token_map = nullptr};
  for (const LayerTableSpec& layer : manifest_.layers) {
    LayerAddressing addressing;
    addressing.layer = layer.layer;
    addressing.moduli = {layer.rows / 2, layer.rows / 2};
    addressing.offsets = {0, layer.rows / 2};
    set.manifest.scheme.layers.push_back(addressing);
  }
  const std::vector<RowId> first = {0, 49};
  const std::vector<RowId> second = {49, 20};
  const LayerRequest layers[] = {{.layer = 4, .row_ids = second, .landing = {}},
                                 {.layer = 1, .row_ids = first, .landing = {}}};
  const BatchRequest batch{.layers = layers};
  EXPECT_TRUE(CheckBatchIsHeld(batch, set).ok());
  set.held = {{100, {{0, 50}}}, {50, {{0, 50}}}};
  EXPECT_TRUE(CheckBatchIsHeld(batch, set).ok());
  set.held[1].ranges = {{25, 25}};
  const absl::Status status = CheckBatchIsHeld(batch, set);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("layer 4: row 20 (index 1)"), HasSubstr("[25, 50)")));
}

}  // namespace
}  // namespace engram
