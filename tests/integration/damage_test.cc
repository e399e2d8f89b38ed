// Memory that breaks while it is served: the scrubber finds it, the set is fenced, nobody is served
// its rows over any transport, and engramd says that it is not ready.
#include <grpcpp/grpcpp.h>
#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/store/testing/resident_damage.h"
#include "proto/engram/v1/admin.grpc.pb.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "server/engramd.h"
#include "tests/integration/http_get.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

class DamageTest : public ::testing::Test {
 protected:
  void Start(uint32_t scrub_mib_per_s) {
    PackSmallSet("qwen4-exp", 500, scratch_ / "set");
    ServerConfig config;
    config.table_sets = {scratch_ / "set"};
    config.listen = {{.host = "127.0.0.1", .port = "0", .unix_path = {}}};
    config.shm_socket = scratch_ / "m";
    config.admin_listen = {{.host = "127.0.0.1", .port = "0", .unix_path = {}}};
    config.admin_grpc_listen = {{.host = {}, .port = {}, .unix_path = scratch_ / "admin"}};
    config.scrub_mib_per_s = scrub_mib_per_s;
    auto engramd =
        Engramd::Load(config,
                      std::make_shared<spdlog::logger>(
                          "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)),
                      &RealClock());
    ASSERT_TRUE(engramd.ok()) << engramd.status();
    engramd_ = *std::move(engramd);
    ASSERT_TRUE(engramd_->Listen().ok());
    ASSERT_TRUE(engramd_->Accept().ok());
    for (const std::string& target :
         {"grpc:" + engramd_->addresses()[0], "shm:" + (scratch_ / "m")}) {
      for (const char* mode :
           {target[0] == 'g' ? "stream" : "", target[0] == 'g' ? "unary" : "ring"}) {
        auto client = Client::Attach(target, {.timeout = absl::Seconds(20), .mode = mode});
        ASSERT_TRUE(client.ok()) << client.status();
        clients_.push_back(*std::move(client));
      }
    }
  }
  static absl::Status Ask(Client& client) {
    return LookUp(client, RealTokenIds(20), RealClock().Now() + absl::Seconds(10)).status();
  }
  grpc::health::v1::HealthCheckResponse::ServingStatus Health() {
    const auto stub = grpc::health::v1::Health::NewStub(
        grpc::CreateChannel(engramd_->addresses()[0], grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_TRUE(stub->Check(&context, {}, &response).ok());
    return response.status();
  }
  std::string Page(const char* path) const { return HttpGet(engramd_->http_address(), path); }
  std::unique_ptr<v1::Admin::Stub> Operator() const {
    return v1::Admin::NewStub(grpc::CreateChannel(absl::StrCat("unix:", scratch_ / "admin"),
                                                  grpc::InsecureChannelCredentials()));
  }
  v1::ListResponse List() const {
    const auto stub = Operator();
    grpc::ClientContext context;
    v1::ListResponse response;
    EXPECT_TRUE(stub->List(&context, {}, &response).ok());
    return response;
  }
  // What it says last.
  v1::ScrubReport Scrub() const {
    const auto stub = Operator();
    grpc::ClientContext context;
    const auto reader = stub->Scrub(&context, {});
    v1::ScrubReport report;
    while (reader->Read(&report)) continue;
    EXPECT_TRUE(reader->Finish().ok());
    return report;
  }
  void Publish(const std::string& directory) const {
    const auto stub = Operator();
    grpc::ClientContext context;
    v1::PublishRequest request;
    request.set_directory(scratch_ / directory);
    v1::PublishProgress progress;
    const auto publishing = stub->Publish(&context, request);
    while (publishing->Read(&progress)) continue;
    const grpc::Status published = publishing->Finish();
    EXPECT_TRUE(published.ok()) << published.error_message();
  }
  void ExpectServed() {
    EXPECT_EQ(Health(), grpc::health::v1::HealthCheckResponse::SERVING);
    EXPECT_THAT(Page("/readyz"), HasSubstr("200 OK"));
    EXPECT_EQ(MetricValue(Page("/metrics"), "engram_server_ready"), 1);
    EXPECT_TRUE(List().ready());
    const auto client = Client::Attach(absl::StrCat("grpc:", engramd_->addresses()[0]), {});
    ASSERT_TRUE(client.ok()) << client.status();
    EXPECT_TRUE(Ask(**client).ok());
  }
  void Damage() { testing::FlipResidentBit(*engramd_->table_sets().Held()[0], 0, 12345); }
  void ExpectFenced() {
    for (const auto& client : clients_) {
      EXPECT_EQ(Ask(*client).code(), absl::StatusCode::kDataLoss) << client->transport().Describe();
    }
    EXPECT_EQ(Health(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
    EXPECT_THAT(log_.str(), HasSubstr("is fenced"));
    EXPECT_THAT(log_.str(),
                HasSubstr("publish it again or another set of its name, or start engramd again"));
    EXPECT_THAT(log_.str(), ContainsRegex("is fenced: rows [0-9]")) << "its name once";
    const TableSetStatus fenced = engramd_->table_sets().List()[0];
    EXPECT_EQ(fenced.state, TableSetState::kFenced);
    const std::string metrics = Page("/metrics");
    EXPECT_EQ(MetricValue(metrics, "engram_server_checksum_failures_total"), 1);
    EXPECT_EQ(MetricValue(metrics, "engram_server_ready"), 0);
    const v1::ListResponse list = List();
    EXPECT_EQ(list.state(), "SERVING");
    EXPECT_TRUE(list.has_ready() && !list.ready());
    EXPECT_THAT(list.why_not_ready(), HasSubstr("fenced"));
    EXPECT_EQ(
        MetricValue(metrics, absl::StrCat("engram_server_table_set_info{name=\"qwen4-exp\",id=\"",
                                          fenced.id, "\",state=\"fenced\"}")),
        1);
    EXPECT_THAT(Page("/statusz"), HasSubstr(scratch_ / "set"));
    EXPECT_THAT(Page("/readyz"), HasSubstr("fenced"));
  }

  ScratchDirectory scratch_;
  std::ostringstream log_;
  std::unique_ptr<Engramd> engramd_;
  std::vector<std::unique_ptr<Client>> clients_;
};

TEST_F(DamageTest, TheScrubberFindsItAndFencesTheSet) {
  Start(/*scrub_mib_per_s=*/1024);
  for (const auto& client : clients_) ASSERT_TRUE(Ask(*client).ok());
  Damage();
  absl::Status status;
  for (int i = 0; i < 200 && status.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(50));
    status = Ask(*clients_[0]);
  }
  ExpectFenced();
}

TEST_F(DamageTest, AnOperatorsScrubFindsItAtOnce) {
  Start(/*scrub_mib_per_s=*/0);
  Damage();
  const v1::ScrubReport report = Scrub();
  ASSERT_EQ(report.damages_size(), 1);
  EXPECT_THAT(report.damages(0), HasSubstr("qwen4-exp"));
  ExpectFenced();
  // Whoever comes now is told why there is nothing.
  const absl::Status late =
      Client::Attach(absl::StrCat("grpc:", engramd_->addresses()[0]), {}).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(late.message()), HasSubstr("none is served: what was is fenced"));
  const absl::Status by_name =
      Client::Attach(absl::StrCat("grpc:", engramd_->addresses()[0]), {.table_set = "qwen4-exp"})
          .status();
  EXPECT_EQ(by_name.code(), absl::StatusCode::kDataLoss) << by_name;
  const auto grpc = static_cast<size_t>(AttachPath::kGrpc);
  EXPECT_EQ(engramd_->Snapshot().attach_refusals[grpc][static_cast<size_t>(AttachRefusal::kFenced)],
            1u);
  // And is served once it was published again.
  Publish("set");
  ExpectServed();
}

TEST_F(DamageTest, AnotherSetOfItsNameHeals) {
  Start(/*scrub_mib_per_s=*/0);
  Damage();
  EXPECT_EQ(Scrub().damages_size(), 1);
  ExpectFenced();
  PackSmallSet("qwen4-exp", 700, scratch_ / "next");
  Publish("next");
  ExpectServed();
  // Who has the damaged one by its id is not led to the other.
  for (const auto& client : clients_) {
    EXPECT_EQ(Ask(*client).code(), absl::StatusCode::kDataLoss) << client->transport().Describe();
  }
  EXPECT_THAT(Page("/statusz"), HasSubstr("class=\"tag bad\">fenced"));
}

}  // namespace
}  // namespace engram::integration
