// One engramd with two table sets, on TCP and on a Unix socket: whatever way rows are asked for,
// they are the same bytes, those of the synthetic rule.
#include <grpcpp/grpcpp.h>
#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kV41[] = "deepseek-v4.1-flash";
constexpr char kQwen[] = "qwen4-exp";

MonotonicTime Soon() { return RealClock().Now() + absl::Seconds(60); }

struct Served {
  ScratchDirectory scratch;
  std::unique_ptr<EngramdProcess> engramd;
  std::string tcp, unix_socket;
};

class ServingTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    served_ = new Served;
    PackSmallSet(kV41, 500, served_->scratch / "v41");
    PackSmallSet(kQwen, 1000, served_->scratch / "qwen");
    served_->engramd = std::make_unique<EngramdProcess>(
        std::vector<std::string>{"--table-set", served_->scratch / "v41", "--table-set",
                                 served_->scratch / "qwen", "--listen", "127.0.0.1:0", "--listen",
                                 "unix:" + (served_->scratch / "s"), "--gather-threads", "2"});
    served_->tcp = served_->engramd->WaitUntilServing(0);
    served_->unix_socket = served_->engramd->WaitUntilServing(1);
  }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }

  static std::unique_ptr<Client> Attach(const std::string& target, const std::string& set) {
    auto client = Client::Attach(target, {.table_set = set});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  static std::unique_ptr<v1::Lookup::Stub> Stub() {
    return v1::Lookup::NewStub(
        grpc::CreateChannel(served_->tcp, grpc::InsecureChannelCredentials()));
  }

  static Served* served_;
};

Served* ServingTest::served_ = nullptr;

TEST_F(ServingTest, EveryPathGivesTheSameExactRows) {
  const std::vector<int32_t> ids = RealTokenIds(100);
  for (const std::string set : {kV41, kQwen}) {
    const std::string directory = served_->scratch / (set == kV41 ? "v41" : "qwen");
    for (const std::string& target :
         {"embedded:" + directory, "grpc:" + served_->tcp, "grpc:" + served_->unix_socket}) {
      const auto client = Attach(target, set);
      ASSERT_NE(client, nullptr) << target;
      const auto rows = LookUp(*client, ids, Soon());
      ASSERT_TRUE(rows.ok()) << target << ": " << rows.status();
      EXPECT_TRUE(*rows == ExpectedRows(client->table_set(), client->addresser(), ids)) << target;
    }
  }
}

TEST_F(ServingTest, LookupsLargerThanAReplyAreCutAndWhole) {
  // 2,000 tokens of 48 rows of 264 bytes: 25 MB, seven replies.
  const std::vector<int32_t> ids = RealTokenIds(2000);
  for (const std::string& target : {"grpc:" + served_->tcp, "grpc:" + served_->unix_socket}) {
    const auto client = Attach(target, kV41);
    ASSERT_NE(client, nullptr);
    const auto rows = LookUp(*client, ids, Soon());
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows(client->table_set(), client->addresser(), ids)) << target;
  }
}

TEST_F(ServingTest, ManyThreadsShareAClientAndNeverMixSets) {
  const auto v41 = Attach("grpc:" + served_->tcp, kV41);
  const auto qwen = Attach("grpc:" + served_->tcp, kQwen);
  ASSERT_NE(v41, nullptr);
  ASSERT_NE(qwen, nullptr);
  const std::vector<int32_t> ids = RealTokenIds(64);
  std::vector<std::thread> threads;
  for (Client* client : {v41.get(), v41.get(), qwen.get(), qwen.get()}) {
    threads.emplace_back([client, &ids] {
      for (size_t first = 0; first < ids.size(); first += 8) {
        const auto some = absl::MakeConstSpan(ids).subspan(first, 8);
        const auto rows = LookUp(*client, some, Soon());
        ASSERT_TRUE(rows.ok()) << rows.status();
        EXPECT_TRUE(*rows == ExpectedRows(client->table_set(), client->addresser(), some));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// The server addresses token ids itself; its rows are those that the client addresses.
TEST_F(ServingTest, TokenIdsGiveTheRowsThatTheirRowIdsGive) {
  const auto client = Attach("grpc:" + served_->tcp, kV41);
  ASSERT_NE(client, nullptr);
  const std::vector<int32_t> ids = RealTokenIds(40);
  v1::LookupRequest request;
  request.set_table_set_id(client->table_set().id);
  request.set_batch_id(7);
  // The last 30 tokens with their lookback.
  const uint32_t lookback = client->table_set().scheme.Lookback();
  for (size_t i = 10 - lookback; i < ids.size(); ++i)
    request.mutable_tokens()->add_token_ids(ids[i]);
  request.mutable_tokens()->add_sequence_tokens(30);
  request.mutable_tokens()->add_sequence_lookback(lookback);
  grpc::ClientContext context;
  v1::LookupResponse response;
  const grpc::Status status = Stub()->Lookup(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.table_set_id(), client->table_set().id);
  EXPECT_EQ(response.batch_id(), 7u);
  ASSERT_EQ(response.layers_size(), 2);

  const std::string expected = ExpectedRows(client->table_set(), client->addresser(), ids);
  const uint64_t token_bytes = TokenBytes(client->table_set());
  const uint64_t layer_bytes = token_bytes / 2;
  for (size_t t = 10; t < ids.size(); ++t) {
    for (int layer = 0; layer < 2; ++layer) {
      EXPECT_TRUE(response.layers(layer).rows().substr((t - 10) * layer_bytes, layer_bytes) ==
                  expected.substr(t * token_bytes + layer * layer_bytes, layer_bytes))
          << "token " << t << ", layer " << response.layers(layer).layer();
    }
  }
}

TEST_F(ServingTest, AttachingWithoutANameListsTheSets) {
  const auto any = Client::Attach("grpc:" + served_->tcp, {});
  EXPECT_EQ(any.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(any.status().message()), AllOf(HasSubstr(kV41), HasSubstr(kQwen)));
  const auto wrong = Client::Attach("grpc:" + served_->tcp, {.table_set = "other"});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(wrong.status().message()),
              AllOf(HasSubstr("other"), HasSubstr(kV41), HasSubstr(kQwen)));
}

TEST_F(ServingTest, ASetIsFoundByItsIdToo) {
  const auto by_name = Attach("grpc:" + served_->tcp, kQwen);
  ASSERT_NE(by_name, nullptr);
  const auto by_id = Attach("grpc:" + served_->tcp, by_name->table_set().id);
  ASSERT_NE(by_id, nullptr);
  EXPECT_EQ(by_id->table_set().text, by_name->table_set().text);
}

TEST_F(ServingTest, DescribeNamesSetsAndLayers) {
  grpc::ClientContext context;
  v1::DescribeResponse response;
  ASSERT_TRUE(Stub()->Describe(&context, {}, &response).ok());
  ASSERT_EQ(response.table_sets_size(), 2);
  const v1::ServedTableSet& v41 = response.table_sets(0);
  EXPECT_EQ(v41.name(), kV41);
  EXPECT_EQ(v41.id().size(), 64u);
  ASSERT_EQ(v41.layers_size(), 2);
  EXPECT_EQ(v41.layers(0).layer(), 1u);
  EXPECT_EQ(v41.layers(1).layer(), 14u);
  EXPECT_EQ(v41.layers(0).row_bytes(), 264u);
  EXPECT_EQ(v41.layers(0).columns(), 24u);
  EXPECT_EQ(v41.layers(0).encoding(), "fp8_e4m3_ue8m0_block32");
  EXPECT_GT(v41.layers(0).rows(), 24u * 500);
}

}  // namespace
}  // namespace engram::integration
