// Slices of columns as a client of any language asks for them: over the generated stub, unary and
// on a stream.
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"
#include "proto/wire/features.h"
#include "server/lookup/testing/slice_message.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using engram::testing::AddRuns;
using ::testing::HasSubstr;

constexpr uint32_t kColumns = 24, kRowBytes = 264;
using Runs = std::vector<ColumnRun>;

class ForeignSlicesTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    const std::string set = *scratch_ / "set";
    PackSmallSet("deepseek-v4.1-flash", 500, set);
    engramd_ = new EngramdProcess({"--table-set", set, "--listen", "127.0.0.1:0"});
    address_ = new std::string(engramd_->WaitUntilServing(0));
    client_ = Client::Attach("embedded:" + set, {}).value().release();
  }
  static void TearDownTestSuite() {
    delete client_;
    delete address_;
    delete engramd_;
    delete scratch_;
  }

  ForeignSlicesTest() : stub_(ConnectStub(*address_)), stream_(*address_) {
    request_.set_table_set_id(client_->table_set().id);
  }

  // Of a layer of the set, by its index: the ids of these tokens, [tokens, columns of the slice].
  static std::vector<RowId> RowIds(const std::vector<int32_t>& tokens, size_t layer,
                                   const Runs& runs) {
    const ColumnSlice slice = ColumnSlice::Create(runs, kColumns).value();
    Client::Plan plan;
    EXPECT_TRUE(client_->PlanTokens(Addresser::Start(), tokens, {}, &plan, {{slice, slice}}).ok());
    return plan.row_ids[layer];
  }
  v1::LayerRowIds* AddLayer(uint32_t layer, const std::vector<RowId>& ids, const Runs& runs) {
    v1::LayerRowIds* const to = request_.add_layers();
    to->set_layer(layer);
    for (const RowId id : ids) to->add_row_ids32(static_cast<uint32_t>(id));
    AddRuns(runs, to->mutable_columns());
    return to;
  }

  // The rows of the answer to `request_`, by layer, alike unary and on a stream.
  std::map<uint32_t, std::string> Rows() {
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = stub_->Lookup(&context, request_, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.table_set_id(), request_.table_set_id());
    std::map<uint32_t, std::string> rows;
    for (const v1::LayerRowData& layer : response.layers()) rows[layer.layer()] = layer.rows();
    const Answer answer = OnStream();
    EXPECT_EQ(answer.code, 0u) << answer.message;
    EXPECT_EQ(answer.rows, rows);
    return rows;
  }
  Answer OnStream() {
    request_.set_batch_id(++batches_);
    EXPECT_TRUE(stream_.Write(request_));
    EXPECT_EQ(stream_.ReadToAnEnd(), batches_);
    return stream_.Take(batches_);
  }
  void ExpectRefused(const std::string& what) {
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = stub_->Lookup(&context, request_, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr(what));
    const Answer answer = OnStream();
    EXPECT_EQ(answer.code, static_cast<uint32_t>(grpc::StatusCode::INVALID_ARGUMENT));
    EXPECT_THAT(answer.message, HasSubstr(what));
    EXPECT_EQ(answer.rows_bytes, 0u);
  }
  static void ExpectRows(uint32_t layer, const std::vector<RowId>& ids, const std::string& rows) {
    ASSERT_EQ(rows.size(), ids.size() * kRowBytes);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto* const row = reinterpret_cast<const std::byte*>(&rows[i * kRowBytes]);
      ASSERT_TRUE(IsSyntheticRow(layer, ids[i], {row, kRowBytes})) << "row " << i;
    }
  }

  const std::vector<int32_t> tokens_ = RealTokenIds(20);
  std::unique_ptr<v1::Lookup::Stub> stub_;
  HandStream stream_;
  v1::LookupRequest request_;
  uint64_t batches_ = 0;
  static ScratchDirectory* scratch_;
  static EngramdProcess* engramd_;
  static std::string* address_;
  static Client* client_;
};

ScratchDirectory* ForeignSlicesTest::scratch_ = nullptr;
EngramdProcess* ForeignSlicesTest::engramd_ = nullptr;
std::string* ForeignSlicesTest::address_ = nullptr;
Client* ForeignSlicesTest::client_ = nullptr;

TEST_F(ForeignSlicesTest, AreOffered) {
  grpc::ClientContext context;
  v1::AttachResponse attached;
  // Of a client that says nothing of itself, too.
  ASSERT_TRUE(stub_->Attach(&context, v1::AttachRequest(), &attached).ok());
  EXPECT_TRUE(wire::HasFeature(attached.features(), wire::kTokenSlices));
  EXPECT_TRUE(wire::HasFeature(attached.features(), wire::kColumnChecks));
  EXPECT_EQ(attached.version(), kEngramVersion);
}

TEST_F(ForeignSlicesTest, OfRowIdsAndTokensGiveTheirRows) {
  const Runs heads = {{0, 2}, {8, 2}, {16, 2}}, single = {{23, 1}};
  const std::vector<RowId> ids1 = RowIds(tokens_, 0, heads), ids14 = RowIds(tokens_, 1, single);
  AddLayer(1, ids1, heads);
  AddLayer(14, ids14, single);
  auto rows = Rows();
  ASSERT_EQ(rows.size(), 2u);
  ExpectRows(1, ids1, rows[1]);
  ExpectRows(14, ids14, rows[14]);
  request_.clear_layers();
  v1::TokenBatch* const tokens = request_.mutable_tokens();
  for (const int32_t id : tokens_) tokens->add_token_ids(id);
  AddRuns(heads, tokens->add_columns());
  AddRuns(single, tokens->add_columns());
  rows = Rows();
  ASSERT_EQ(rows.size(), 2u);
  ExpectRows(1, ids1, rows[1]);
  ExpectRows(14, ids14, rows[14]);
  // Of one layer that is named.
  tokens->add_layers(14);
  tokens->clear_columns();
  AddRuns(single, tokens->add_columns());
  rows = Rows();
  ASSERT_EQ(rows.size(), 1u);
  ExpectRows(14, ids14, rows[14]);
}

TEST_F(ForeignSlicesTest, OfNoColumnsAreNotInTheAnswer) {
  const Runs single = {{23, 1}};
  const std::vector<RowId> ids14 = RowIds(tokens_, 1, single);
  AddLayer(1, {}, {});
  EXPECT_TRUE(Rows().empty());
  AddLayer(14, ids14, single);
  auto rows = Rows();
  ASSERT_EQ(rows.size(), 1u);
  ExpectRows(14, ids14, rows[14]);
  request_.clear_layers();
  for (const int32_t id : tokens_) request_.mutable_tokens()->add_token_ids(id);
  request_.mutable_tokens()->add_columns();
  AddRuns(single, request_.mutable_tokens()->add_columns());
  rows = Rows();
  ASSERT_EQ(rows.size(), 1u);
  ExpectRows(14, ids14, rows[14]);
  request_.mutable_tokens()->mutable_columns(1)->clear_runs();
  EXPECT_TRUE(Rows().empty());
  EXPECT_TRUE(Rows().empty());  // and the next one, by the same calls
}

TEST_F(ForeignSlicesTest, ThatAreWrongAreRefusedByName) {
  const Runs heads = {{0, 2}, {8, 2}};
  std::vector<RowId> ids = RowIds(tokens_, 0, heads);
  const LayerAddressing& layer = *client_->addresser().scheme().FindLayer(1);
  const auto refused = [&](const std::vector<RowId>& wrong, const Runs& runs,
                           const std::string& what) {
    request_.clear_layers();
    AddLayer(1, wrong, runs);
    ExpectRefused("layer 1: ");
    ExpectRefused(what);
  };
  const auto with = [&](size_t place, RowId id) {
    std::vector<RowId> wrong = ids;
    wrong[place] = id;
    return wrong;
  };
  refused(with(6, ids[6] - layer.offsets[8]), heads, "(token 1, column 8)");
  refused(with(6, ids[6] - layer.offsets[8]), heads, "ids local to a head?");
  refused(with(6, ids[6] + layer.offsets[8]), heads, "offset added twice?");
  refused(with(6, ids[7]), heads, "it is of column 9");
  refused({ids.begin(), ids.end() - 1}, heads, "whole tokens of 4 columns");
  refused(ids, {{0, 25}}, "beyond the layer's 24 columns");
  refused(ids, {{0, 2}, {1, 2}}, "overlaps");
  refused(ids, Runs(9, {0, 1}), "a slice of 9 runs of columns: 8 at most");
  request_.clear_layers();
  request_.mutable_tokens()->add_token_ids(1);
  AddRuns(Runs{{0, 2}}, request_.mutable_tokens()->add_columns());
  ExpectRefused("1 slices of columns for 2 layers");
  AddRuns(Runs{{20, 5}}, request_.mutable_tokens()->add_columns());
  ExpectRefused("tokens, slice 1 (layer 14): columns: run 0");
  // The stream goes on.
  request_.mutable_tokens()->clear_columns();
  EXPECT_EQ(Rows().size(), 2u);
}

}  // namespace
}  // namespace engram::integration
