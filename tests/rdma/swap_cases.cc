// A name that moves between two table sets while clients look rows up over RDMA, by the owner's
// writes and by their own reads: no lookup fails, no batch mixes sets, what the owner counted is
// what the clients did, and nothing of the old sets stays registered.
#include <spdlog/sinks/null_sink.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/follower.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "server/engramd.h"
#include "tests/integration/http_get.h"
#include "tests/integration/small_sets.h"
#include "tests/rdma/rdma_owner.h"

namespace engram::rdma {
namespace {

constexpr int kSwaps = 6;
constexpr size_t kTokens = 20;

struct Worker {
  std::string mode;
  std::atomic<uint64_t> lookups{0};
  std::atomic<uint64_t> rows{0};
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> switches{0};
  std::thread thread;
};

// Looks up and checks until told to stop.
void Follow(const std::string& address, const std::atomic<bool>& stop, Worker& worker) {
  auto follower = Follower::Attach("rdma:" + address,
                                   {.timeout = absl::Seconds(60), .mode = worker.mode}, nullptr);
  ASSERT_TRUE(follower.ok()) << worker.mode << ": " << follower.status();
  const std::vector<int32_t> token_ids = integration::RealTokenIds(kTokens);
  std::shared_ptr<Client> before;
  while (!stop.load()) {
    const std::shared_ptr<Client> client = (*follower)->BeginStep();
    if (before != nullptr && client != before) ++worker.switches;
    before = client;
    const auto rows =
        integration::LookUp(*client, token_ids, RealClock().Now() + absl::Seconds(60));
    ASSERT_TRUE(rows.ok()) << worker.mode << ": " << rows.status();
    ASSERT_EQ(*rows, integration::ExpectedRows(client->table_set(), client->addresser(), token_ids))
        << worker.mode;
    const Manifest& set = client->table_set();
    ++worker.lookups;
    worker.rows += kTokens * set.scheme.Columns() * set.layers.size();
    worker.bytes += rows->size();
  }
}

TEST(RdmaSwaps, UnderLoadNoLookupFailsAndNoBatchMixesSets) {
  const Resources before = Resources::Now();
  {
    const integration::ScratchDirectory scratch;
    integration::PackSmallSet("qwen4-exp", 500, scratch / "a");
    integration::PackSmallSet("qwen4-exp", 700, scratch / "b");
    ServerConfig config;
    config.table_sets = {scratch / "a"};
    config.listen = {{.host = "127.0.0.1", .port = "0", .unix_path = {}}};
    config.admin_listen = {{.host = "127.0.0.1", .port = "0", .unix_path = {}}};
    config.rdma_devices.push_back({.device = Device()});
    config.rdma_read = true;
    auto engramd = Engramd::Load(
        config,
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>()),
        &RealClock());
    ASSERT_TRUE(engramd.ok()) << engramd.status();
    ASSERT_TRUE((*engramd)->Listen().ok());
    ASSERT_TRUE((*engramd)->Accept().ok());
    std::atomic<bool> stop{false};
    Worker workers[2];
    workers[0].mode = "write";
    workers[1].mode = "read";
    for (Worker& worker : workers) {
      worker.thread = std::thread(
          [&, address = (*engramd)->addresses().front()] { Follow(address, stop, worker); });
    }
    for (int swap = 0; swap < kSwaps; ++swap) {
      absl::SleepFor(absl::Seconds(2));
      const auto published =
          (*engramd)->table_sets().Publish(scratch / (swap % 2 == 0 ? "b" : "a"), nullptr, nullptr);
      EXPECT_TRUE(published.ok()) << published.status();
    }
    absl::SleepFor(absl::Seconds(2));
    stop.store(true);
    for (Worker& worker : workers) {
      worker.thread.join();
      EXPECT_GE(worker.switches.load() + 1, static_cast<uint64_t>(kSwaps)) << worker.mode;
      EXPECT_GT(worker.lookups.load(), 10u) << worker.mode;
      std::fprintf(stderr, "%s: %llu lookups, %llu switches\n", worker.mode.c_str(),
                   static_cast<unsigned long long>(worker.lookups.load()),
                   static_cast<unsigned long long>(worker.switches.load()));
    }
    // Reads are the client's own: the owner sees writes alone.
    const std::string page = integration::HttpGet((*engramd)->http_address(), "/metrics");
    const auto value = [&page](const std::string& name) {
      return integration::MetricValue(page, "engram_server_" + name);
    };
    EXPECT_EQ(value("requests_total{transport=\"rdma\",code=\"OK\"}"), workers[0].lookups.load());
    EXPECT_EQ(value("rows_total{transport=\"rdma\"}"), workers[0].rows.load());
    EXPECT_EQ(value("reply_bytes_total{transport=\"rdma\"}"), workers[0].bytes.load());
    const auto count = [&value](absl::string_view stage) {
      return value(absl::StrCat("stage_seconds_count{stage=\"", stage, "\"}"));
    };
    for (const char* stage : {"queue", "plan", "gather"}) {
      EXPECT_GE(count(stage), workers[0].lookups.load()) << stage;
    }
    // A client may have its last rows and go before the owner sees that they were sent.
    const uint64_t clients = workers[0].switches.load() + 1;
    EXPECT_GE(count("send") + clients, workers[0].lookups.load());
    EXPECT_EQ(value("rdma_clients"), 0);
  }
  EXPECT_TRUE(before.ComesBack());
}

}  // namespace
}  // namespace engram::rdma
