// Whoever takes a target takes a cluster: a follower while sets are published, lookups by token ids
// while a store is killed, and the programs.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "client/follower.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/cluster/partitioned_stores.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr char kFamily[] = "deepseek-v4.1-flash";

class ClusterUseTest : public ::testing::Test {
 protected:
  // Of one name and of different sizes, so that the rows of one are wrong for the other.
  ClusterUseTest() { PackSmallSet(kFamily, 100, scratch_ / "set"); }

  static std::unique_ptr<Client> Attach(const std::string& target) {
    auto client = Client::Attach(target, {.timeout = absl::Seconds(60)});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  static absl::Status LookUpRight(Client& client) {
    const std::vector<int32_t> ids = RealTokenIds(20);
    const auto rows = LookUp(client, ids, RealClock().After(absl::Seconds(30)));
    if (!rows.ok()) return rows.status();
    return *rows == ExpectedRows(client.table_set(), client.addresser(), ids)
               ? absl::OkStatus()
               : absl::DataLossError("rows are not those of the client's table set");
  }
  // A decode step: each token a sequence of its own, behind those before it.
  static absl::Status LookUpRightByTokens(Client& client, absl::Span<const int32_t> ids) {
    std::vector<SequenceTokens> sequences;
    SequenceState state = Addresser::Start();
    for (const int32_t& id : ids) {
      sequences.push_back({state, 1});
      if (absl::Status status = client.addresser().Advance({&id, 1}, {}, &state); !status.ok()) {
        return status;
      }
    }
    std::string rows(ids.size() * TokenBytes(client.table_set()), '\0');
    const auto ticket = client.SubmitTokens(
        sequences, ids, {},
        DenseLandings(client.table_set(), reinterpret_cast<std::byte*>(rows.data())),
        RealClock().After(absl::Seconds(30)));
    if (!ticket.ok()) return ticket.status();
    const absl::Status status = client.Wait(*ticket);
    client.Reap(*ticket);
    if (!status.ok()) return status;
    return rows == ExpectedRows(client.table_set(), client.addresser(), ids)
               ? absl::OkStatus()
               : absl::DataLossError("wrong rows");
  }
  static double TokenLookups(EngramdProcess& store) {
    const auto line = store.WaitForLine("status at http://");
    EXPECT_TRUE(line);
    std::string address = line->substr(line->find("http://") + 7);
    address.resize(std::min(address.find('/'), address.size()));
    return MetricValue(HttpGet(address, "/metrics"), "engram_server_token_lookups_total");
  }

  ScratchDirectory scratch_;
};

TEST_F(ClusterUseTest, AFollowerGoesAlongWithWhatIsPublishedOnEveryStore) {
  PackSmallSet(kFamily, 130, scratch_ / "next");
  const PartitionedStores stores(scratch_, 2, 2, {"--retire-grace-s", "60"});
  std::atomic<bool> is_over = false;
  std::atomic<uint64_t> lookups = 0;
  auto follower = Follower::Attach(stores.target(), {.timeout = absl::Seconds(60)}, nullptr);
  ASSERT_TRUE(follower.ok()) << follower.status();
  std::vector<std::thread> workers;
  for (int i = 0; i < 2; ++i) {
    workers.emplace_back([&] {
      while (!is_over) {
        const std::shared_ptr<Client> client = (*follower)->BeginStep();
        const absl::Status status = LookUpRight(*client);
        EXPECT_TRUE(status.ok()) << status;
        if (!status.ok()) return;
        ++lookups;
      }
    });
  }
  std::string before = (*follower)->BeginStep()->table_set().id;
  for (const char* set : {"next", "set", "next"}) {
    for (size_t i = 0; i < stores.addresses().size(); ++i) {
      // Until each partition is at one store the name leads where it did.
      if (i <= 2) {
        EXPECT_EQ((*follower)->BeginStep()->table_set().id, before);
      }
      const Outcome published = RunShell(absl::StrCat("$ENGRAM admin publish ", scratch_ / set,
                                                      " --admin ", stores.admin_address(i)));
      EXPECT_EQ(published.exit_code, 0) << published.err;
    }
    const MonotonicTime end = RealClock().After(absl::Seconds(60));
    while ((*follower)->BeginStep()->table_set().id == before && RealClock().Now() < end) {
      EXPECT_TRUE(LookUpRight(*(*follower)->BeginStep()).ok());
    }
    const std::string now = (*follower)->BeginStep()->table_set().id;
    EXPECT_NE(now, before) << (*follower)->status();
    before = now;
  }
  is_over = true;
  for (std::thread& worker : workers) worker.join();
  EXPECT_GT(lookups, 10u);
}

TEST_F(ClusterUseTest, AKilledStoreLosesNoLookupByTokenIds) {
  PartitionedStores stores(scratch_, 2, 2, {"--admin-listen", "127.0.0.1:0"});
  const std::unique_ptr<Client> client = Attach(stores.target());
  ASSERT_NE(client, nullptr);
  const std::vector<int32_t> ids = RealTokenIds(300);
  const auto expect_right = [&](size_t tokens) {
    const absl::Status status =
        LookUpRightByTokens(*client, absl::MakeConstSpan(ids).first(tokens));
    EXPECT_TRUE(status.ok()) << status;
  };
  for (const size_t tokens : {1, 7, 64, 300}) expect_right(tokens);
  for (int i = 0; i < 40; ++i) expect_right(64);
  // They went as such, to replicas that are drawn at random.
  EXPECT_GT(TokenLookups(stores[0]), 0);
  EXPECT_GT(TokenLookups(stores[3]), 0);
  std::atomic<bool> is_over = false;
  std::thread killer([&] {
    stores[1].Signal(SIGKILL);
    stores[1].WaitForEnd();
    stores[2].Signal(SIGKILL);
    stores[2].WaitForEnd();
    is_over = true;
  });
  while (!is_over) expect_right(64);
  killer.join();
  for (int i = 0; i < 50; ++i) expect_right(64);
  EXPECT_EQ(client->metrics().routing->failed, 0u);
}

TEST_F(ClusterUseTest, ProgramsTakeIt) {
  const PartitionedStores stores(scratch_, 2, 1);
  const std::vector<int32_t> ids = RealTokenIds(500);
  WriteFile(scratch_ / "ids",
            std::string(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)));
  const std::string words =
      absl::StrCat(" --target ", stores.target(), " --token-ids ", scratch_ / "ids");
  const Outcome looked_up =
      RunShell(absl::StrCat("$ENGRAM lookup --output ", scratch_ / "rows", words));
  ASSERT_EQ(looked_up.exit_code, 0) << looked_up.err;
  const std::unique_ptr<Client> client = Attach(stores.target());
  ASSERT_NE(client, nullptr);
  // The string is megabytes: not to be printed.
  EXPECT_TRUE(ReadFile(scratch_ / "rows") ==
              ExpectedRows(client->table_set(), client->addresser(), ids));
  const Outcome measured = RunShell(absl::StrCat(
      "$ENGRAM bench --rounds 20 --batch-tokens 1,64 --in-flight 4 --from-token-ids --json",
      words));
  EXPECT_EQ(measured.exit_code, 0) << measured.err;
  EXPECT_THAT(measured.out, HasSubstr("\"rows_per_s\""));
}

TEST_F(ClusterUseTest, TheSimulatorRunsOverOne) {
  const Outcome simulated = RunShell(
      "gpu/simulator/engram_worker simulate --seconds 0.2 --blocks 3 --hidden 32 --sequences 8 "
      "--chunk-tokens 32 --rows-per-head 1000 --rows cluster --json --engramd server/engramd");
  EXPECT_EQ(simulated.exit_code, 0) << simulated.err;
  EXPECT_THAT(simulated.out, HasSubstr("\"rows\":\"cluster\""));
}

}  // namespace
}  // namespace engram::integration
