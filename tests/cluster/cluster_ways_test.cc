// A client of a cluster whose stores are on its own machine: their rows come through shared memory,
// mapped or by a ring, and over gRPC when that ends.
#include <atomic>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kPartitions = 2, kReplicas = 2;

class ClusterWaysTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    scratch_ = new ScratchDirectory;
    PackSmallSet("deepseek-v4.1-flash", 100, *scratch_ / "set");
  }
  static void TearDownTestSuite() { delete scratch_; }

  void SetUp() override {
    for (uint32_t store = 0; store < kPartitions * kReplicas; ++store) Start(store);
    for (const auto& store : stores_) store->WaitUntilServing();
  }
  std::string AddressOf(uint32_t store) { return absl::StrCat("unix:", *scratch_ / "s", store); }
  void Start(uint32_t store) {
    stores_.resize(kPartitions * kReplicas);
    stores_[store] = std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", *scratch_ / "set", "--partition",
        absl::StrCat(store % kPartitions, "/", kPartitions), "--listen", AddressOf(store),
        "--shm-socket", absl::StrCat(*scratch_ / "shm", store)});
  }
  std::unique_ptr<Client> Attach(const std::string& mode) {
    std::vector<std::string> addresses;
    for (uint32_t i = 0; i < stores_.size(); ++i) addresses.push_back(AddressOf(i));
    auto client = Client::Attach(absl::StrCat("cluster:", absl::StrJoin(addresses, ",")),
                                 {.timeout = absl::Seconds(60), .mode = mode});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  static void ExpectRightRows(Client& client, size_t tokens = 64) {
    const std::vector<int32_t> ids = RealTokenIds(tokens);
    const auto rows = LookUp(client, ids, RealClock().After(absl::Seconds(30)));
    ASSERT_TRUE(rows.ok()) << rows.status();
    ASSERT_TRUE(*rows == ExpectedRows(client.table_set(), client.addresser(), ids));
  }
  // Looks rows up until so many stores are reached so.
  static void LookUpUntil(Client& client, const std::string& described) {
    const MonotonicTime give_up = RealClock().After(absl::Seconds(60));
    while (client.transport().Describe().find(described) == std::string::npos) {
      ASSERT_NO_FATAL_FAILURE(ExpectRightRows(client));
      ASSERT_LT(RealClock().Now(), give_up) << client.transport().Describe();
    }
  }

  static ScratchDirectory* scratch_;
  std::vector<std::unique_ptr<EngramdProcess>> stores_;
};

ScratchDirectory* ClusterWaysTest::scratch_ = nullptr;

TEST_F(ClusterWaysTest, RowsComeThroughSharedMemoryAndAKilledStoreLosesNoLookup) {
  for (const std::string mode : {"", "ring"}) {
    SCOPED_TRACE(mode);
    const std::unique_ptr<Client> client = Attach(mode);
    ASSERT_NE(client, nullptr);
    const std::string name = mode.empty() ? "shm" : "shm-ring";
    ASSERT_NO_FATAL_FAILURE(LookUpUntil(*client, absl::StrCat("4 over ", name)));
    for (const size_t tokens : {1, 64, 5000}) ExpectRightRows(*client, tokens);
    std::atomic<bool> is_over = false;
    std::thread killer([&] {
      stores_[1]->Signal(SIGKILL);
      stores_[1]->WaitForEnd();
      is_over = true;
    });
    while (!is_over) ASSERT_NO_FATAL_FAILURE(ExpectRightRows(*client));
    killer.join();
    for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(ExpectRightRows(*client));
    // It is started again, and is reached in the same way.
    Start(1);
    stores_[1]->WaitUntilServing();
    ASSERT_NO_FATAL_FAILURE(LookUpUntil(*client, absl::StrCat("4 over ", name)));
    EXPECT_EQ(client->metrics().routing->failed, 0u);
  }
}

TEST_F(ClusterWaysTest, AStoreThatIsStoppedHoldsUpNoRing) {
  const std::unique_ptr<Client> client = Attach("ring");
  ASSERT_NE(client, nullptr);
  ASSERT_NO_FATAL_FAILURE(LookUpUntil(*client, "4 over shm-ring"));
  stores_[0]->Signal(SIGSTOP);
  for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(ExpectRightRows(*client));
  stores_[0]->Signal(SIGCONT);
  for (int i = 0; i < 50; ++i) ASSERT_NO_FATAL_FAILURE(ExpectRightRows(*client));
  EXPECT_EQ(client->metrics().routing->failed, 0u);
  EXPECT_GT(client->metrics().routing->drains, 0u);
}

TEST_F(ClusterWaysTest, WhoAsksForGrpcAloneGetsNothingElse) {
  const std::unique_ptr<Client> client = Attach("grpc");
  ASSERT_NE(client, nullptr);
  ASSERT_NO_FATAL_FAILURE(LookUpUntil(*client, "4 over grpc)"));
}

}  // namespace
}  // namespace engram::integration
