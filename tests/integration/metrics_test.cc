// What an engramd says of itself over HTTP: every counter against what its clients counted,
// readiness through its life, the status page, and clients that mean no good.
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kToken[] = "0123456789abcdef-worker-a";

class MetricsTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> more = {}) {
    PackSmallSet("qwen4-exp", 500, scratch_ / "set");
    more.insert(more.begin(),
                {"--table-set", scratch_ / "set", "--listen", "127.0.0.1:0", "--shm-socket",
                 scratch_ / "m", "--admin-listen", "127.0.0.1:0", "--scrub-mib-per-s", "1000"});
    engramd_ = std::make_unique<EngramdProcess>(more);
    const auto line = engramd_->WaitForLine("metrics and status at http://");
    ASSERT_TRUE(line) << engramd_->Log();
    http_ = line->substr(line->find("http://") + 7);
    address_ = engramd_->WaitUntilServing();
  }
  std::string Metrics() const { return HttpGet(http_, "/metrics"); }
  double Value(const std::string& name) const {
    return MetricValue(Metrics(), "engram_server_" + name);
  }
  // A counter that a thread adds to once its client has the answer.
  void Expect(const std::string& name, double value) const {
    for (int i = 0; i < 100 && Value(name) != value; ++i) absl::SleepFor(absl::Milliseconds(20));
    EXPECT_EQ(Value(name), value) << name;
  }
  std::unique_ptr<Client> Attach(const std::string& target, const std::string& mode) const {
    auto client = Client::Attach(target, {.timeout = absl::Seconds(20), .mode = mode});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }

  ScratchDirectory scratch_;
  std::unique_ptr<EngramdProcess> engramd_;
  std::string http_, address_;
};

TEST_F(MetricsTest, CountersAreWhatTheClientsCounted) {
  Start();
  const std::vector<int32_t> token_ids = RealTokenIds(10);
  struct Way {
    std::string target, mode, name;
    int lookups;
  };
  for (const Way& way : {Way{"grpc:" + address_, "stream", "grpc_stream", 7},
                         Way{"grpc:" + address_, "unary", "grpc_unary", 5},
                         Way{"shm:" + (scratch_ / "m"), "ring", "shm_ring", 3}}) {
    const auto client = Attach(way.target, way.mode);
    const Manifest& set = client->table_set();
    const uint64_t rows = uint64_t{10} * set.scheme.Columns() * set.layers.size();
    for (int i = 0; i < way.lookups; ++i) {
      ASSERT_TRUE(LookUp(*client, token_ids, RealClock().Now() + absl::Seconds(10)).ok());
    }
    const std::string label = absl::StrCat("{transport=\"", way.name, "\"");
    Expect(absl::StrCat("requests_total", label, ",code=\"OK\"}"), way.lookups);
    Expect(absl::StrCat("rows_total", label, "}"), way.lookups * rows);
    Expect(absl::StrCat("reply_bytes_total", label, "}"), way.lookups * 10 * TokenBytes(set));
    Expect(absl::StrCat("request_seconds_count", label, "}"), way.lookups);
    if (way.name == "shm_ring") {
      EXPECT_EQ(Value("shm_clients"), 1);
      Expect(absl::StrCat("leases{name=\"qwen4-exp\",id=\"", set.id, "\",kind=\"ring\"}"), 1);
    }
  }
  Expect("shm_clients", 0);
  Expect("batch_rows_count", 7 + 5 + 3);
  Expect("stage_seconds_count{stage=\"gather\"}", 7 + 5 + 3);
  Expect("stage_seconds_count{stage=\"plan\"}", 7 + 5);
  Expect("requests_in_flight", 0);
  EXPECT_GT(Value("scrub_bytes_total"), 0);
  EXPECT_EQ(Value("scrub_limit_bytes_per_second"), 1000.0 * (1 << 20));
}

TEST_F(MetricsTest, RefusalsAreCountedByTheirCodeAndReason) {
  WriteFile(scratch_ / "tokens", absl::StrCat("worker-a ", kToken, "\n"));
  WriteFile(scratch_ / "mine", kToken);
  Start({"--token-file", scratch_ / "tokens", "--allow", "worker-a=another"});
  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  const auto look_up = [&](bool with_token, const std::string& set) {
    grpc::ClientContext context;
    if (with_token) context.AddMetadata("authorization", absl::StrCat("Bearer ", kToken));
    v1::LookupRequest request;
    request.set_table_set_id(set);
    request.mutable_tokens()->add_token_ids(1);
    v1::LookupResponse response;
    return stub->Lookup(&context, request, &response).error_code();
  };
  const std::string log = engramd_->Log();
  const size_t at = log.find("loaded qwen4-exp ") + 17;
  const std::string id = log.substr(at, 64);
  EXPECT_EQ(look_up(false, id), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(look_up(true, id), grpc::StatusCode::PERMISSION_DENIED);
  // Who may not have a set is not told whether there is one.
  EXPECT_EQ(look_up(true, "none"), grpc::StatusCode::PERMISSION_DENIED);
  const auto attach = [&](bool with_token, const std::string& set) {
    grpc::ClientContext context;
    if (with_token) context.AddMetadata("authorization", absl::StrCat("Bearer ", kToken));
    v1::AttachRequest request;
    request.set_table_set(set);
    v1::AttachResponse response;
    return stub->Attach(&context, request, &response).error_code();
  };
  EXPECT_EQ(attach(false, "qwen4-exp"), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(attach(true, "qwen4-exp"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(attach(true, "none"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(attach(true, "another"), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(attach(true, std::string(64, 'a')), grpc::StatusCode::FAILED_PRECONDITION);
  for (const auto& [why, times] :
       {std::pair("unauthenticated", 1), std::pair("permission_denied", 2),
        std::pair("unknown_name", 1), std::pair("unknown_id", 1)}) {
    Expect(absl::StrCat("attach_refusals_total{transport=\"grpc\",reason=\"", why, "\"}"), times);
    EXPECT_THAT(engramd_->Log(), HasSubstr(absl::StrCat("refused (", why, "): ")));
    EXPECT_THAT(HttpGet(http_, "/statusz"), HasSubstr(absl::StrCat("attach over grpc: ", why)));
  }
  EXPECT_THAT(HttpGet(http_, "/statusz"), HasSubstr("lookup: permission_denied"));
  Expect("rejections_total{reason=\"unauthenticated\"}", 1);
  Expect("rejections_total{reason=\"permission_denied\"}", 2);
  Expect("requests_total{transport=\"grpc_unary\",code=\"UNAUTHENTICATED\"}", 1);
  Expect("requests_total{transport=\"grpc_unary\",code=\"PERMISSION_DENIED\"}", 2);
  Expect("requests_total{transport=\"grpc_unary\",code=\"OK\"}", 0);
  Expect("batch_rows_count", 0);
}

TEST_F(MetricsTest, ReadyWhileItServesAndAliveAllTheTime) {
  Start({"--drain-grace-s", "3"});
  EXPECT_THAT(HttpGet(http_, "/readyz"), AllOf(HasSubstr("200 OK"), HasSubstr("serving")));
  EXPECT_THAT(HttpGet(http_, "/healthz"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(http_, "/livez"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(http_, "/"), AllOf(HasSubstr(" 302 "), HasSubstr("Location: /statusz\r\n")));
  EXPECT_THAT(HttpGet(http_, "/none"), AllOf(HasSubstr("404"), HasSubstr("/statusz\n")));
  // A stream whose client takes nothing keeps the drain waiting for its grace.
  const auto client = Attach("grpc:" + address_, "stream");
  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(address_, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto stream = stub->LookupStream(&context);
  v1::LookupRequest request;
  request.set_table_set_id(client->table_set().id);
  for (int i = 0; i < 200000; ++i) request.mutable_tokens()->add_token_ids(1);
  ASSERT_TRUE(stream->Write(request));
  absl::SleepFor(absl::Milliseconds(300));
  engramd_->Signal(SIGTERM);
  ASSERT_TRUE(engramd_->WaitForLine("draining"));
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_THAT(HttpGet(http_, "/readyz"), AllOf(HasSubstr("503"), HasSubstr("DRAINING")));
  EXPECT_THAT(HttpGet(http_, "/healthz"), HasSubstr("200 OK"));
  EXPECT_EQ(Value("state{state=\"draining\"}"), 1);
  context.TryCancel();
  EXPECT_EQ(engramd_->WaitForEnd(), 0);
}

TEST_F(MetricsTest, TheStatusPageIsWholeAndEscapesWhatOthersChose) {
  Start();
  const std::string page = HttpGet(http_, "/statusz");
  EXPECT_THAT(page, HasSubstr("layer 1: "));
  EXPECT_THAT(page, ContainsRegex("[0-9.]+ [KMG]iB on [^<]* pages"));
  const std::string metrics = HttpGet(http_, "/metrics");
  for (const char* kind : {"hugetlb-2MiB", "transparent-huge", "4KiB"}) {
    EXPECT_THAT(metrics, ContainsRegex(absl::StrCat("server_resident_bytes.[^}]*pages=\"", kind)));
  }
  EXPECT_THAT(page, HasSubstr("in 1 shard"));
  EXPECT_THAT(page, HasSubstr("serves at <code>127.0.0.1:"));
  EXPECT_THAT(HttpGet(http_, "/statusz.js"), HasSubstr("text/javascript"));
  EXPECT_THAT(metrics, ContainsRegex("\nprocess_resident_memory_bytes [1-9]"));
  for (const char* part : {"SERVING", "qwen4-exp", "id=\"rows\"", "id=\"latency\"", "flag --listen",
                           "id=\"configuration\"", "</html>"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
  EXPECT_THAT(page, Not(HasSubstr("src=\"http")));
  EXPECT_THAT(page, Not(HasSubstr("href=\"http")));
  PackSmallSet("qwen4-exp", 600, scratch_ / "<script>x");
  EngramdProcess wild({"--table-set", scratch_ / "<script>x", "--listen", "127.0.0.1:0",
                       "--admin-listen", "127.0.0.1:0"});
  wild.WaitUntilServing();
  const auto line = wild.WaitForLine("metrics and status at http://");
  const std::string other = HttpGet(line->substr(line->find("http://") + 7), "/statusz");
  EXPECT_THAT(other, AllOf(HasSubstr("&lt;script&gt;x"), Not(HasSubstr("<script>x"))));
}

// Slow clients, silent ones, many, and requests without end: the pages stay there, and lookups too.
TEST_F(MetricsTest, ClientsThatMeanNoGoodHoldNothingUpForLong) {
  Start();
  std::vector<int> open;
  for (int i = 0; i < 200; ++i) {
    const int fd = ConnectTo(http_);
    if (fd < 0) continue;
    open.push_back(fd);
    const std::string part = i % 2 == 0 ? "GET /met" : std::string(60000, 'x');
    send(fd, part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  const auto client = Attach("grpc:" + address_, "stream");
  EXPECT_TRUE(LookUp(*client, RealTokenIds(10), RealClock().Now() + absl::Seconds(5)).ok());
  // Among them, as a probe asks.
  std::string answer;
  for (int i = 0; i < 10 && answer.empty(); ++i) answer = HttpGet(http_, "/readyz");
  for (const int fd : open) close(fd);
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  for (const char* path :
       {"/../../etc/passwd", "/metrics/../../etc/passwd", "/%2e%2e/etc/passwd"}) {
    EXPECT_THAT(HttpGet(http_, path), Not(HasSubstr("root:"))) << path;
  }
}

TEST_F(MetricsTest, APortThatIsTakenIsNamed) {
  Start();
  EngramdProcess second(
      {"--table-set", scratch_ / "set", "--listen", "127.0.0.1:0", "--admin-listen", http_});
  EXPECT_FALSE(second.WaitForLine("listening on"));
  EXPECT_EQ(second.WaitForEnd(), 1);
  EXPECT_THAT(second.Log(), HasSubstr("cannot listen on " + http_ + " for HTTP"));
}

}  // namespace
}  // namespace engram::integration
