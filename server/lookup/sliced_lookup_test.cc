// Slices of columns on the wire: what protobuf writes, through LookupBatch, against the synthetic
// rule and the addresser.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/addressing/families.h"
#include "memstore/pack/pack_synthetic.h"
#include "memstore/table/synthetic.h"
#include "proto/engram/v1/lookup.pb.h"
#include "server/lookup/lookup_batch.h"
#include "server/lookup/testing/slice_message.h"

namespace engram {
namespace {

using testing::AddRuns;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr MonotonicTime kNow = MonotonicTime::FromNanoseconds(1000000);
constexpr uint32_t kColumns = 12;  // of longcat-flash-lite, whose one layer is 0
using Runs = std::vector<ColumnRun>;

class SlicedLookupTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    const std::string directory = absl::StrCat(::testing::TempDir(), "/sliced_lookup_set");
    PackOptions options;
    options.output = directory;
    options.rows_per_head = 100;
    ASSERT_TRUE(PackSynthetic(**FindFamily("longcat-flash-lite"), options).ok());
    set_ = new std::shared_ptr<const TableSet>(TableSet::Load(directory, {}).value());
    registry_ = new TableSetRegistry;
    ASSERT_TRUE(registry_->Publish(*set_).ok());
    team_ = GatherTeam::Create(1, "test").value().release();
  }
  static void TearDownTestSuite() {
    delete team_;
    delete registry_;
    delete set_;
  }

  SlicedLookupTest() {
    request_.set_table_set_id((*set_)->id());
    request_.set_batch_id(7);
  }

  static const LayerAddressing& Layer() { return (*set_)->addresser().scheme().layers[0]; }
  // All columns of the tokens, [tokens, columns].
  static std::vector<RowId> RowIds(const std::vector<int32_t>& tokens) {
    std::vector<RowId> ids(tokens.size() * kColumns);
    const LayerRowIdsOutput output = {
        .layer_index = 0, .rows = ids.data(), .token_stride = kColumns};
    EXPECT_TRUE((*set_)->addresser().Address(Addresser::Start(), tokens, {}, {&output, 1}).ok());
    return ids;
  }
  static std::vector<RowId> Sliced(const std::vector<RowId>& all, const Runs& runs) {
    std::vector<RowId> ids;
    for (size_t token = 0; token < all.size() / kColumns; ++token) {
      for (const ColumnRun& run : runs) {
        const auto first = all.begin() + token * kColumns + run.first_column;
        ids.insert(ids.end(), first, first + run.columns);
      }
    }
    return ids;
  }

  absl::Status Prepare() {
    const std::string bytes = request_.SerializeAsString();
    const wire::Bytes chain[] = {{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}};
    absl::Status status = batch_.Parse(chain, kNow);
    if (!status.ok()) return status;
    return batch_.Prepare(*registry_, {.max_batch_rows = 10000, .max_reply_bytes = 0});
  }
  // The rows of the answer are these, back to back.
  void ExpectRows(const std::vector<RowId>& ids) {
    const absl::Status status = Prepare();
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(batch_.Rows(), ids.size());
    ASSERT_TRUE(batch_.BeginReply(nullptr, [](const absl::Status&) {}).ok());
    std::vector<std::byte> slab(batch_.ReplyBytes() + 4096);
    const absl::Span<std::byte> part = batch_.FillPart(*team_, absl::MakeSpan(slab));
    ASSERT_TRUE(batch_.done());
    v1::LookupResponse response;
    ASSERT_TRUE(response.ParseFromArray(part.data(), static_cast<int>(part.size())));
    ASSERT_EQ(response.layers_size(), 1);
    const std::string& rows = response.layers(0).rows();
    const size_t row_bytes = (*set_)->layers()[0].table.row_bytes;
    ASSERT_EQ(rows.size(), ids.size() * row_bytes);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto* const row = reinterpret_cast<const std::byte*>(&rows[i * row_bytes]);
      ASSERT_TRUE(IsSyntheticRow(0, ids[i], {row, row_bytes})) << "row " << i;
    }
  }
  void ExpectRefused(const std::string& layer, const std::string& what) {
    const absl::Status status = Prepare();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(layer), HasSubstr(what)));
  }
  v1::LayerRowIds* AddLayer(const std::vector<RowId>& ids, const Runs& runs, bool wide = false) {
    v1::LayerRowIds* const layer = request_.add_layers();
    for (const RowId id : ids) {
      wide ? layer->add_row_ids64(id) : layer->add_row_ids32(static_cast<uint32_t>(id));
    }
    AddRuns(runs, layer->mutable_columns());
    return layer;
  }

  const std::vector<int32_t> tokens_ = {5, 6, 7, 5, 6};
  v1::LookupRequest request_;
  LookupBatch batch_;
  static std::shared_ptr<const TableSet>* set_;
  static TableSetRegistry* registry_;
  static GatherTeam* team_;
};

std::shared_ptr<const TableSet>* SlicedLookupTest::set_ = nullptr;
TableSetRegistry* SlicedLookupTest::registry_ = nullptr;
GatherTeam* SlicedLookupTest::team_ = nullptr;

TEST_F(SlicedLookupTest, IdsAndTokensGiveTheSameColumns) {
  const std::vector<RowId> all = RowIds(tokens_);
  for (const Runs& runs : {Runs{{0, 12}}, Runs{{0, 1}}, Runs{{11, 1}}, Runs{{1, 2}, {5, 1}, {8, 4}},
                           Runs{{0, 1}, {2, 1}, {4, 1}, {6, 1}, {7, 1}, {8, 1}, {9, 1}, {11, 1}}}) {
    const std::vector<RowId> ids = Sliced(all, runs);
    for (const bool wide : {false, true}) {
      request_.clear_layers();
      request_.clear_tokens();
      AddLayer(ids, runs, wide);
      ExpectRows(ids);
    }
    request_.clear_layers();
    v1::TokenBatch* const tokens = request_.mutable_tokens();
    for (const int32_t id : tokens_) tokens->add_token_ids(id);
    AddRuns(runs, tokens->add_columns());
    ExpectRows(ids);
    // In two sequences, the second after its look-back.
    tokens->clear_token_ids();
    for (const int32_t id : {5, 6, 7, 5, 6, 7, 5, 6}) tokens->add_token_ids(id);
    for (const uint32_t count : {3u, 2u}) tokens->add_sequence_tokens(count);
    for (const uint32_t count : {0u, 3u}) tokens->add_sequence_lookback(count);
    ExpectRows(ids);
  }
}

TEST_F(SlicedLookupTest, IdsAreOfTheirColumn) {
  const Runs runs = {{1, 2}, {8, 1}};
  std::vector<RowId> ids = Sliced(RowIds(tokens_), runs);
  ids[5] -= Layer().offsets[8];  // of token 1
  AddLayer(ids, runs);
  ExpectRefused("layer 0: row id", "(token 1, column 8)");
  ExpectRefused("layer 0", "ids local to a head?");
  request_.clear_layers();
  ids[5] = ids[4];
  AddLayer(ids, runs, /*wide=*/true);
  ExpectRefused("(token 1, column 8) is not a row of its column", "it is of column 2");
  request_.clear_layers();
  ids.pop_back();
  AddLayer(ids, runs);
  ExpectRefused("layer 0: 14 row ids", "whole tokens of 3 columns");
  // Without a slice they are rows like any others.
  request_.mutable_layers(0)->clear_columns();
  EXPECT_TRUE(Prepare().ok());
}

TEST_F(SlicedLookupTest, SlicesThatAreNoneAreRefused) {
  const std::vector<std::pair<Runs, std::string>> wrong = {
      {{{0, 13}}, "beyond the layer's 12 columns"},
      {{{12, 1}}, "beyond the layer's 12 columns"},
      {{{4294967295, 4294967295}}, "beyond the layer's 12 columns"},
      {{{0, 2}, {1, 2}}, "overlaps"},
      {{{4, 2}, {0, 2}}, "(columns 0..1) lies before run 0 (columns 4..5)"},
      {Runs(9, {0, 1}), "a slice of 9 runs of columns: 8 at most, so join runs that touch"},
      {Runs(100000, {0, 1}), "a slice of 100000 runs of columns: 8 at most"},
  };
  for (const auto& [runs, what] : wrong) {
    request_.clear_layers();
    request_.clear_tokens();
    AddLayer({1, 2}, runs);
    ExpectRefused("layer 0: columns: ", what);
    request_.clear_layers();
    request_.mutable_tokens()->add_token_ids(1);
    AddRuns(runs, request_.mutable_tokens()->add_columns());
    ExpectRefused("tokens, slice 0 (layer 0): columns: ", what);
    request_.mutable_tokens()->add_layers(0);
    ExpectRefused("tokens, slice 0 (layer 0): columns: ", what);
    // A slice of no layer, which is refused before it is known to be one too many.
    *request_.mutable_tokens()->add_columns() = request_.tokens().columns(0);
    request_.mutable_tokens()->mutable_columns(0)->clear_runs();
    ExpectRefused("tokens, slice 1: columns: ", what);
  }
}

TEST_F(SlicedLookupTest, TokensHaveOneSliceALayer) {
  request_.mutable_tokens()->add_token_ids(1);
  for (int i = 0; i < 2; ++i) AddRuns(Runs{{0, 1}}, request_.mutable_tokens()->add_columns());
  ExpectRefused("2 slices of columns for 1 layers", "one for each");
  for (int i = 0; i < 100000; ++i) request_.mutable_tokens()->add_columns();
  ExpectRefused("100002 slices", "one for each");
}

TEST_F(SlicedLookupTest, NoColumnsAreAnsweredByNoRows) {
  AddLayer({}, {});
  for (const bool of_stream : {false, true}) {
    ASSERT_TRUE(Prepare().ok());
    EXPECT_TRUE(batch_.done());
    v1::LookupResponse response;
    ASSERT_TRUE(response.ParseFromString(batch_.EmptyReply(of_stream)));
    EXPECT_EQ(response.table_set_id(), (*set_)->id());
    EXPECT_EQ(response.batch_id(), 7u);
    EXPECT_EQ(response.layers_size(), 0);
    EXPECT_EQ(response.last(), of_stream);
  }
  request_.mutable_layers(0)->add_row_ids32(1);
  ExpectRefused("layer 0: 1 row ids", "0 columns");
  request_.clear_layers();
  request_.mutable_tokens()->add_token_ids(1);
  request_.mutable_tokens()->add_columns();
  ASSERT_TRUE(Prepare().ok());
  EXPECT_TRUE(batch_.done());
  // What would be wrong with the tokens is wrong all the same.
  request_.mutable_tokens()->set_token_ids(0, -1);
  ExpectRefused("sequence 0", "token id -1");
  request_.clear_tokens();
  ExpectRefused("the batch is empty", "at least one row");
}

}  // namespace
}  // namespace engram
