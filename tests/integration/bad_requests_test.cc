// What a request that is not right gets from a real engramd: the code and a message that names the
// thing and the fix. Requests are made by hand, as a client of any language could.
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

struct Served {
  ScratchDirectory scratch;
  std::unique_ptr<EngramdProcess> engramd;
  std::unique_ptr<v1::Lookup::Stub> stub;
  v1::ServedTableSet set;
};

class BadRequestsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    served_ = new Served;
    PackSmallSet("deepseek-v4.1-flash", 500, served_->scratch / "set");
    served_->engramd = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", served_->scratch / "set", "--listen", "127.0.0.1:0",
                                 "--max-batch-rows", "20000"});
    grpc::ChannelArguments arguments;
    arguments.SetMaxSendMessageSize(-1);
    served_->stub = v1::Lookup::NewStub(grpc::CreateCustomChannel(
        served_->engramd->WaitUntilServing(), grpc::InsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    v1::DescribeResponse described;
    ASSERT_TRUE(served_->stub->Describe(&context, {}, &described).ok());
    served_->set = described.table_sets(0);
  }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }

  // Sends what `edit` makes of a request for the served set, which must fail with `code` and hold
  // no rows.
  static std::string Message(grpc::StatusCode code,
                             const std::function<void(v1::LookupRequest&)>& edit) {
    v1::LookupRequest request;
    request.set_table_set_id(served_->set.id());
    edit(request);
    grpc::ClientContext context;
    v1::LookupResponse response;
    const grpc::Status status = served_->stub->Lookup(&context, request, &response);
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_EQ(response.ByteSizeLong(), 0u);
    return status.error_message();
  }
  static std::string Invalid(const std::function<void(v1::LookupRequest&)>& edit) {
    return Message(grpc::StatusCode::INVALID_ARGUMENT, edit);
  }
  static v1::LayerRowIds* AddRows(v1::LookupRequest& request, uint32_t layer,
                                  const std::vector<uint32_t>& ids) {
    v1::LayerRowIds* rows = request.add_layers();
    rows->set_layer(layer);
    rows->mutable_row_ids32()->Add(ids.begin(), ids.end());
    return rows;
  }

  static Served* served_;
};

Served* BadRequestsTest::served_ = nullptr;

TEST_F(BadRequestsTest, RowOutOfRange) {
  const uint32_t rows = static_cast<uint32_t>(served_->set.layers(0).rows());
  EXPECT_EQ(Invalid([&](auto& request) {
              AddRows(request, 1, {0, rows});
            }),
            absl::StrCat("layer 1: row id ", rows, " at index 1 is outside the table, which has ",
                         rows, " rows; address with the scheme of the table set that is asked"));
  EXPECT_THAT(Invalid([](auto& request) {
                v1::LayerRowIds* wide = request.add_layers();
                wide->set_layer(14);
                wide->add_row_ids64(uint64_t{1} << 63);
              }),
              HasSubstr("layer 14: row id 9223372036854775808 at index 0"));
}

TEST_F(BadRequestsTest, UnknownLayerOrOneTwice) {
  EXPECT_EQ(Invalid([](auto& request) { AddRows(request, 2, {1}); }),
            "table set deepseek-v4.1-flash has no layer 2: ask for one of 1, 14");
  EXPECT_EQ(Invalid([](auto& request) {
              AddRows(request, 1, {1});
              AddRows(request, 1, {2});
            }),
            "layer 1: is asked for twice: merge its row ids");
}

TEST_F(BadRequestsTest, UnknownTableSet) {
  const std::string unknown = Message(grpc::StatusCode::FAILED_PRECONDITION, [](auto& request) {
    request.set_table_set_id(std::string(64, '0'));
    AddRows(request, 1, {1});
  });
  EXPECT_THAT(unknown, HasSubstr(std::string(64, '0')));
  EXPECT_THAT(unknown, HasSubstr("deepseek-v4.1-flash " + served_->set.id()));
  EXPECT_THAT(Invalid([](auto& request) {
                request.clear_table_set_id();
                AddRows(request, 1, {1});
              }),
              HasSubstr("table_set_id is empty"));
}

TEST_F(BadRequestsTest, EmptyBatches) {
  EXPECT_THAT(Invalid([](auto&) {}), HasSubstr("the batch is empty"));
  EXPECT_THAT(Invalid([](auto& request) { AddRows(request, 1, {}); }),
              HasSubstr("layer 1: it has no row ids"));
  EXPECT_THAT(Invalid([](auto& request) { request.mutable_tokens(); }),
              HasSubstr("tokens.token_ids holds no token id"));
}

TEST_F(BadRequestsTest, BatchesOverTheLimits) {
  EXPECT_THAT(Invalid([](auto& request) { AddRows(request, 1, std::vector<uint32_t>(20'001, 1)); }),
              HasSubstr("the batch has 20001 rows: split it, at most 20000 rows a batch"));
  EXPECT_THAT(
      Invalid([](auto& request) { AddRows(request, 1, std::vector<uint32_t>(16'000, 1)); }),
      HasSubstr("more than one unary reply of at most 4194304 bytes: call LookupStream, which "
                "answers in parts, or split the batch, at most 15886 rows"));
  // Over the limit of a message gRPC answers, before anything is parsed.
  EXPECT_THAT(
      Message(grpc::StatusCode::RESOURCE_EXHAUSTED,
              [](auto& request) { AddRows(request, 1, std::vector<uint32_t>(2 << 20, 1)); }),
      HasSubstr("larger than max"));
}

TEST_F(BadRequestsTest, BothWaysToAskOrBothWidths) {
  EXPECT_THAT(Invalid([](auto& request) {
                AddRows(request, 1, {1});
                request.mutable_tokens()->add_token_ids(1);
              }),
              HasSubstr("both layers (row ids) and tokens are given"));
  EXPECT_THAT(Invalid([](auto& request) { AddRows(request, 1, {1})->add_row_ids64(1); }),
              HasSubstr("layer 1: row_ids32 and row_ids64 are both given"));
}

TEST_F(BadRequestsTest, TokenIdsOutOfTheVocabularyOrNegative) {
  EXPECT_THAT(Invalid([](auto& request) {
                request.mutable_tokens()->add_token_ids(5);
                request.mutable_tokens()->add_token_ids(129'280);
              }),
              HasSubstr("tokens of sequence 0: token id 129280"));
  EXPECT_THAT(Invalid([](auto& request) { request.mutable_tokens()->add_token_ids(-1); }),
              HasSubstr("token id -1"));
}

TEST_F(BadRequestsTest, TokenBatchesThatDoNotAddUp) {
  const auto tokens = [](const std::function<void(v1::TokenBatch&)>& edit) {
    return Invalid([&](v1::LookupRequest& request) {
      for (const int32_t id : {5, 6, 7, 8, 9}) request.mutable_tokens()->add_token_ids(id);
      edit(*request.mutable_tokens());
    });
  };
  EXPECT_THAT(tokens([](auto& batch) {
                batch.add_sequence_tokens(1);
                batch.add_sequence_lookback(4);
              }),
              HasSubstr("sequence 0 has 4 lookback tokens: the table set looks back 3 at most"));
  EXPECT_THAT(tokens([](auto& batch) {
                batch.add_sequence_tokens(4);
                batch.add_sequence_lookback(0);
              }),
              HasSubstr("name 4 tokens, lookback included, but tokens.token_ids holds 5"));
  EXPECT_THAT(tokens([](auto& batch) { batch.add_sequence_lookback(1); }),
              HasSubstr("give both for each sequence"));
  EXPECT_THAT(tokens([](auto& batch) { batch.set_dead_mask("\0\1", 2); }),
              HasSubstr("tokens.dead_mask has 2 bytes for 5 token ids"));
  EXPECT_THAT(tokens([](auto& batch) {
                batch.add_layers(14);
                batch.add_layers(1);
              }),
              HasSubstr("tokens.layers must ascend"));
}

TEST_F(BadRequestsTest, ADeadlineThatHasPassed) {
  v1::LookupRequest request;
  request.set_table_set_id(served_->set.id());
  AddRows(request, 1, {1});
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() - std::chrono::seconds(1));
  v1::LookupResponse response;
  EXPECT_EQ(served_->stub->Lookup(&context, request, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
}

// The client refuses the same before it sends anything, and touches no buffer.
TEST_F(BadRequestsTest, TheClientRefusesThemToo) {
  const auto client = Client::Attach("embedded:" + (served_->scratch / "set"), {});
  ASSERT_TRUE(client.ok()) << client.status();
  Client::Plan plan;
  const std::vector<int32_t> beyond = {129'280}, negative = {-1};
  for (const auto& ids : {beyond, negative}) {
    const absl::Status status = (*client)->PlanTokens(Addresser::Start(), ids, {}, &plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("token id ", ids[0])));
  }
}

// After all of that it serves as before.
TEST_F(BadRequestsTest, NoneOfThemHarmsTheServer) {
  v1::LookupRequest request;
  request.set_table_set_id(served_->set.id());
  AddRows(request, 1, {1, 2});
  grpc::ClientContext context;
  v1::LookupResponse response;
  ASSERT_TRUE(served_->stub->Lookup(&context, request, &response).ok());
  EXPECT_EQ(response.layers(0).rows().size(), 2u * 264);
}

}  // namespace
}  // namespace engram::integration
