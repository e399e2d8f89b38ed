// engramd when it is told to stop: its code, its socket, and lookups that are under way.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/client.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

class EngramdEndTest : public ::testing::Test {
 protected:
  void SetUp() override { PackSmallSet("deepseek-v4.1-flash", 500, Set()); }
  std::string Set() const { return scratch_ / "set"; }
  std::string Socket() const { return "unix:" + (scratch_ / "s"); }
  std::vector<std::string> Flags() const { return {"--table-set", Set(), "--listen", Socket()}; }

  ScratchDirectory scratch_;
};

TEST_F(EngramdEndTest, SigtermAndSigintEndItWith0AndLeaveNoSocket) {
  for (const int signal : {SIGTERM, SIGINT}) {
    // None of its many threads takes the signal from the one that waits for it.
    std::vector<std::string> flags = Flags();
    flags.insert(flags.end(), {"--gather-threads", "16"});
    EngramdProcess engramd(flags);
    ASSERT_FALSE(engramd.WaitUntilServing().empty());
    engramd.Signal(signal);
    EXPECT_EQ(engramd.WaitForEnd(), 0);
    EXPECT_NE(access((scratch_ / "s").c_str(), F_OK), 0);
  }
}

TEST_F(EngramdEndTest, SigtermWhileItLoadsEndsItWith0) {
  EngramdProcess engramd(Flags());
  ASSERT_TRUE(engramd.WaitForLine("loading"));
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

// Whenever the signal comes, programs find the event of it.
TEST_F(EngramdEndTest, SigtermWhileItLoadsIsAnEventOfTheLog) {
  std::vector<std::string> flags = Flags();
  flags.insert(flags.end(), {"--log-format", "json"});
  EngramdProcess engramd(flags);
  ASSERT_TRUE(engramd.WaitForLine("loading"));
  engramd.Signal(SIGTERM);
  EXPECT_TRUE(engramd.WaitForLine("\"event\":\"stopped\"")) << engramd.Log();
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

TEST_F(EngramdEndTest, SighupSaysWhereThereIsNothingToRead) {
  EngramdProcess engramd(Flags());
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  engramd.Signal(SIGHUP);
  EXPECT_TRUE(engramd.WaitForLine("there is neither a token file nor a certificate"));
  EXPECT_TRUE(engramd.IsRunning());
}

TEST_F(EngramdEndTest, ALookupInFlightFinishesAfterSigterm) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  const auto embedded = Client::Attach("embedded:" + Set(), {});
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  // Almost a whole reply. Its client does not read yet, so the flow control of HTTP/2 keeps the
  // call open at the server.
  const std::vector<int32_t> ids = RealTokenIds(300);
  v1::LookupRequest request;
  request.set_table_set_id((*embedded)->table_set().id);
  request.mutable_tokens()->mutable_token_ids()->Add(ids.begin(), ids.end());
  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  v1::LookupResponse response;
  const auto call = stub->AsyncLookup(&context, request, &queue);
  // Comes with the reply's first bytes.
  call->ReadInitialMetadata(nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));

  engramd.Signal(SIGTERM);
  ASSERT_TRUE(engramd.WaitForLine("draining"));
  EXPECT_TRUE(engramd.IsRunning());
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(engramd.WaitForEnd(), 0);

  const std::string expected =
      ExpectedRows((*embedded)->table_set(), (*embedded)->addresser(), ids);
  const uint64_t token_bytes = TokenBytes((*embedded)->table_set());
  std::string rows;
  for (size_t t = 0; t < ids.size(); ++t) {
    for (const v1::LayerRowData& layer : response.layers()) {
      rows += layer.rows().substr(t * token_bytes / 2, token_bytes / 2);
    }
  }
  EXPECT_TRUE(rows == expected);
}

// Whatever SIGTERM overtakes is answered whole or was never taken; nothing that was begun is cut.
TEST_F(EngramdEndTest, LookupsThatArriveWithSigtermAreWholeOrRefused) {
  EngramdProcess engramd(Flags());
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  const auto client = Client::Attach("grpc:" + Socket(), {});
  ASSERT_TRUE(client.ok()) << client.status();
  const std::vector<int32_t> ids = RealTokenIds(200);
  Client::Plan plan;
  ASSERT_TRUE((*client)->PlanTokens(Addresser::Start(), ids, {}, &plan).ok());
  const std::string expected = ExpectedRows((*client)->table_set(), (*client)->addresser(), ids);
  std::vector<std::string> rows(16, std::string(expected.size(), '\0'));
  std::vector<Ticket> tickets;
  engramd.Signal(SIGSTOP);
  for (std::string& one : rows) {
    const auto ticket = (*client)->Submit(
        plan, DenseLandings((*client)->table_set(), reinterpret_cast<std::byte*>(one.data())),
        RealClock().Now() + absl::Seconds(60));
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    tickets.push_back(*ticket);
  }
  engramd.Signal(SIGTERM);
  engramd.Signal(SIGCONT);
  for (size_t i = 0; i < tickets.size(); ++i) {
    const absl::Status status = (*client)->Wait(tickets[i]);
    if (status.ok()) {
      EXPECT_TRUE(rows[i] == expected);
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    }
    (*client)->Reap(tickets[i]);
  }
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

TEST_F(EngramdEndTest, ADrainingEngramdLeavesTheSocketOfItsSuccessor) {
  EngramdProcess first(Flags());
  ASSERT_FALSE(first.WaitUntilServing().empty());
  std::filesystem::remove(scratch_ / "s");
  EngramdProcess second(Flags());
  ASSERT_FALSE(second.WaitUntilServing().empty());
  first.Signal(SIGTERM);
  EXPECT_EQ(first.WaitForEnd(), 0);
  EXPECT_TRUE(Client::Attach("grpc:" + Socket(), {}).ok());
}

}  // namespace
}  // namespace engram::integration
