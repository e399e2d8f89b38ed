#include "client/target.h"

#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace engram {
namespace {

TEST(ParseTarget, TakesEveryForm) {
  const auto embedded = ParseTarget("embedded:/tables/v41");
  ASSERT_TRUE(embedded.ok());
  EXPECT_EQ(embedded->kind, Target::Kind::kEmbedded);
  EXPECT_EQ(embedded->place, "/tables/v41");
  for (const std::string place : {"localhost:7300", "10.0.0.1:1", "[::1]:7300",
                                  "[fe80::1%eth0]:7300", "a_b-1.svc:7300", "unix:/run/e.sock"}) {
    const auto target = ParseTarget("grpc:" + place);
    ASSERT_TRUE(target.ok()) << place;
    EXPECT_EQ(target->kind, Target::Kind::kGrpc);
    EXPECT_EQ(target->place, place);
  }
  EXPECT_EQ(ParseTarget("rdma:10.0.0.1:7300")->kind, Target::Kind::kRdma);
  EXPECT_EQ(ParseTarget("auto:10.0.0.1:7300")->kind, Target::Kind::kAuto);
  EXPECT_EQ(ParseTarget("auto:unix:/run/e.sock")->place, "unix:/run/e.sock");
  const auto shm = ParseTarget("shm:/run/engram.shm");
  ASSERT_TRUE(shm.ok());
  EXPECT_EQ(shm->kind, Target::Kind::kShm);
  EXPECT_EQ(shm->place, "/run/engram.shm");
}

TEST(ParseTarget, TakesClusters) {
  for (const std::string place : {"h:7300", "h:7300,unix:/run/e.sock,[::1]:1",
                                  "dns:stores.svc:7300", "etcd:e0:2379,e1:2379/engram/prod"}) {
    const auto target = ParseTarget("cluster:" + place);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_EQ(target->kind, Target::Kind::kCluster);
    EXPECT_EQ(target->place, place);
  }
}

TEST(ParseTarget, RefusesOtherClustersWithTheFormToWrite) {
  for (const auto& [text, form] : std::vector<std::pair<std::string, std::string>>{
           {"cluster:", "cluster:HOST:PORT,unix:PATH"},
           {"cluster:host", "cluster:HOST:PORT,unix:PATH"},
           {"cluster:h:1,", "cluster:HOST:PORT,unix:PATH"},
           {"cluster:h:1, g:1", "cluster:HOST:PORT,unix:PATH"},
           {"cluster:h:1,unix:", "cluster:HOST:PORT,unix:PATH"},
           {"cluster:h:1,h:1", "each address once"},
           {"cluster:dns:stores", "cluster:dns:NAME:PORT"},
           {"cluster:dns:[::1]:7300", "cluster:dns:NAME:PORT"},
           {"cluster:etcd:e0:2379", "HOST:PORT[,HOST:PORT...]/PREFIX"},
           {"cluster:etcd:e0/engram", "HOST:PORT[,HOST:PORT...]/PREFIX"}}) {
    const auto status = ParseTarget(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(std::string(status.message()).find(form), std::string::npos) << status;
  }
}

TEST(ParseTarget, RefusesTheRestAndListsTheForms) {
  const std::string long_path = "grpc:unix:/" + std::string(107, 'x');
  for (const std::string& text : std::vector<std::string>{long_path,
                                                          "",
                                                          "embedded:",
                                                          "grpc:",
                                                          "grpc:host",
                                                          "grpc:host:0",
                                                          "grpc:host:65536",
                                                          "grpc:host:x",
                                                          "grpc::7300",
                                                          "grpc:::1:7300",
                                                          "rdma:",
                                                          "rdma:host",
                                                          "auto:host:0",
                                                          "grpc:unix:",
                                                          "shm:",
                                                          "grpc://10.0.0.1:7300",
                                                          "grpc: 10.0.0.1:7300",
                                                          "grpc:10.0.0.1 :7300",
                                                          "grpc:10.0.0.1: 7300",
                                                          "grpc:10.0.0.1:+7300",
                                                          "grpc:10.0.0.1:7300/",
                                                          "grpc:a/b:7300",
                                                          "rdma://host:7300",
                                                          "auto: host:7300",
                                                          "shm: /run/e",
                                                          "grpc:unix: /run/e",
                                                          "embedded: /tables",
                                                          " grpc:host:7300",
                                                          "http://host:7300",
                                                          "grpc:user@host:7300",
                                                          "shm:/" + std::string(107, 'x'),
                                                          "/tables/v41"}) {
    const auto status = ParseTarget(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(std::string(status.message()).find("grpc:HOST:PORT"), std::string::npos) << text;
  }
}

TEST(ParseTarget, SaysWhatWasMeant) {
  for (const auto& [text, meant] : std::vector<std::pair<std::string, std::string>>{
           {"grpc://127.0.0.1:7300", "grpc:127.0.0.1:7300"},
           {"grpc://127.0.0.1:7300/", "grpc:127.0.0.1:7300"},
           {"grpc: 127.0.0.1:7300", "grpc:127.0.0.1:7300"},
           {"http://127.0.0.1:7300", "grpc:127.0.0.1:7300"},
           {"https://host:7300/", "grpc:host:7300"},
           {"tcp://host:7300", "grpc:host:7300"},
           {"dns:///host:7300", "grpc:host:7300"},
           {"unix:///run/e", "grpc:unix:/run/e"},
           {" auto:host:7300 ", "auto:host:7300"},
           {"rdma://[::1]:7300", "rdma:[::1]:7300"},
           {"shm: /run/e", "shm:/run/e"},
           {"embedded: /tables", "embedded:/tables"}}) {
    EXPECT_NE(std::string(ParseTarget(text).status().message()).find("did you mean " + meant + "?"),
              std::string::npos)
        << text;
  }
  EXPECT_EQ(std::string(ParseTarget("host:7300").status().message()).find("did you mean"),
            std::string::npos);
}

}  // namespace
}  // namespace engram
