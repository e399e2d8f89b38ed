// An engramd that holds a part of each table set: over gRPC, as clients of any language and the
// SDK's meet it, and to its operators.
#include "memstore/partition/partition.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/table/synthetic.h"
#include "server/lookup/testing/slice_message.h"
#include "tests/integration/hand_stream.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using engram::testing::AddRuns;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint32_t kColumns = 24, kRowBytes = 264;
// Of the second of four parts: heads 2 and 3 of three orders.
const std::vector<ColumnRun>& Held() {
  static const auto* const kRuns = new std::vector<ColumnRun>{{2, 2}, {10, 2}, {18, 2}};
  return *kRuns;
}
constexpr char kHeldText[] = "columns 2..3, 10..11, 18..19";

class PartitionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    PackSmallSet("deepseek-v4.1-flash", 500, *scratch_ / "set");
    engramd_ = new EngramdProcess({"--table-set", *scratch_ / "set", "--partition", "1/4",
                                   "--listen", "127.0.0.1:0", "--admin-grpc-listen", Admin()});
    address_ = new std::string(engramd_->WaitUntilServing(0));
    client_ = Client::Attach("embedded:" + (*scratch_ / "set"), {}).value().release();
  }
  static void TearDownTestSuite() {
    delete client_;
    delete address_;
    delete engramd_;
    delete scratch_;
  }
  static std::string Admin() { return "unix:" + (*scratch_ / "admin"); }

  PartitionTest() : stub_(ConnectStub(*address_)), stream_(*address_) {
    request_.set_table_set_id(client_->table_set().id);
  }

  // Of the set's first layer, whatever is held of it.
  static std::vector<RowId> RowIds(const std::vector<ColumnRun>& runs) {
    const ColumnSlice slice = ColumnSlice::Create(runs, kColumns).value();
    Client::Plan plan;
    EXPECT_TRUE(
        client_->PlanTokens(Addresser::Start(), RealTokenIds(20), {}, &plan, {{slice, slice}})
            .ok());
    return plan.row_ids[0];
  }
  void AddRows(const std::vector<RowId>& ids) {
    v1::LayerRowIds* const to = request_.add_layers();
    to->set_layer(1);
    for (const RowId id : ids) to->add_row_ids32(static_cast<uint32_t>(id));
  }
  v1::TokenBatch& AddTokens() {
    v1::TokenBatch* const tokens = request_.mutable_tokens();
    for (const int32_t id : RealTokenIds(20)) tokens->add_token_ids(id);
    return *tokens;
  }
  Answer OnStream() {
    request_.set_batch_id(++batches_);
    EXPECT_TRUE(stream_.Write(request_));
    EXPECT_EQ(stream_.ReadToAnEnd(), batches_);
    return stream_.Take(batches_);
  }
  // Unary, and on a stream.
  void ExpectRows(const std::vector<RowId>& ids) {
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = stub_->Lookup(&context, request_, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    const std::string& rows = response.layers(0).rows();
    ASSERT_EQ(rows.size(), ids.size() * kRowBytes);
    for (size_t i = 0; i < ids.size(); ++i) {
      const auto* const row = reinterpret_cast<const std::byte*>(&rows[i * kRowBytes]);
      ASSERT_TRUE(IsSyntheticRow(1, ids[i], {row, kRowBytes})) << "row " << i;
    }
    const Answer answer = OnStream();
    EXPECT_EQ(answer.code, 0u) << answer.message;
    EXPECT_EQ(answer.rows.at(1), rows);
  }
  void ExpectNotHeld() {
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = stub_->Lookup(&context, request_, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
    EXPECT_THAT(status.error_message(), AllOf(HasSubstr("layer 1"), HasSubstr(kHeldText)));
    EXPECT_EQ(response.layers_size(), 0);
    const Answer answer = OnStream();
    EXPECT_EQ(answer.code, static_cast<uint32_t>(grpc::StatusCode::FAILED_PRECONDITION));
    EXPECT_THAT(answer.message, HasSubstr(kHeldText));
    EXPECT_EQ(answer.rows_bytes, 0u);
  }

  std::unique_ptr<v1::Lookup::Stub> stub_;
  HandStream stream_;
  v1::LookupRequest request_;
  uint64_t batches_ = 0;
  static ScratchDirectory* scratch_;
  static EngramdProcess* engramd_;
  static std::string* address_;
  static Client* client_;
};

ScratchDirectory* PartitionTest::scratch_ = nullptr;
EngramdProcess* PartitionTest::engramd_ = nullptr;
std::string* PartitionTest::address_ = nullptr;
Client* PartitionTest::client_ = nullptr;

TEST_F(PartitionTest, RowsThatAreHeldAreExactAndOthersAreRefused) {
  const std::vector<RowId> held = RowIds(Held());
  AddRows(held);
  ExpectRows(held);
  // One of another column among them.
  request_.mutable_layers(0)->add_row_ids32(static_cast<uint32_t>(RowIds({{4, 1}})[0]));
  ExpectNotHeld();
}

TEST_F(PartitionTest, TokensAreLookedUpInTheColumnsThatAreHeld) {
  v1::TokenBatch& tokens = AddTokens();
  AddRuns(Held(), tokens.add_columns());
  AddRuns({}, tokens.add_columns());
  ExpectRows(RowIds(Held()));
  tokens.mutable_columns(0)->clear_runs();
  AddRuns({{2, 3}}, tokens.mutable_columns(0));
  ExpectNotHeld();
  tokens.clear_columns();
  ExpectNotHeld();
}

TEST_F(PartitionTest, AttachSaysWhatIsHeld) {
  const auto client = Client::Attach(absl::StrCat("grpc:", *address_), {});
  ASSERT_TRUE(client.ok()) << client.status();
  const AttachedTableSet& attached = (*client)->transport().table_set();
  ASSERT_EQ(attached.held.size(), attached.manifest.layers.size());
  for (size_t i = 0; i < attached.held.size(); ++i) {
    EXPECT_EQ(WholeColumnsIn(attached.held[i], attached.manifest.scheme.layers[i]).runs, Held());
  }
}

TEST_F(PartitionTest, OperatorsAreToldAndWhatTheyPublishIsHeldInPartToo) {
  const auto list = [] { return RunShell("$ENGRAM admin list --admin " + Admin()).out; };
  EXPECT_THAT(list(), HasSubstr(absl::StrCat("holds ", kHeldText)));
  PackSmallSet("qwen4-exp", 500, *scratch_ / "other");
  const Outcome published =
      RunShell(absl::StrCat("$ENGRAM admin publish ", *scratch_ / "other", " --admin ", Admin()));
  EXPECT_EQ(published.exit_code, 0) << published.err;
  const std::string both = list();
  const size_t first = both.find("holds columns");
  EXPECT_NE(both.find("holds columns", first + 1), std::string::npos) << both;
}

TEST(PartitionOfNothing, APartThatASetHasNotGotIsRefusedBeforeLoading) {
  const ScratchDirectory scratch;
  PackSmallSet("deepseek-v4.1-flash", 500, scratch / "set");
  EngramdProcess engramd(
      {"--table-set", scratch / "set", "--partition", "0/25", "--listen", "127.0.0.1:0"});
  EXPECT_NE(engramd.WaitForEnd(), 0);
  EXPECT_THAT(engramd.Log(), HasSubstr("1 to 24 partitions"));
}

}  // namespace
}  // namespace engram::integration
