// auto:HOST:PORT: which way is taken where there is no RDMA device, what is said of it, and that a
// lookup survives the end of the first way. With RDMA: tests/rdma.
#include <csignal>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class AutoTest : public ::testing::Test {
 protected:
  AutoTest() { PackSmallSet("qwen4-exp", 500, set()); }
  std::string set() const { return scratch_ / "set"; }
  std::string socket() const { return scratch_ / "shm"; }
  // On the port of an earlier one, where there was one.
  std::unique_ptr<EngramdProcess> Start(bool shm, const std::string& listen = "127.0.0.1:0") {
    std::vector<std::string> flags = {"--table-set", set(), "--listen", listen};
    if (shm) flags.insert(flags.end(), {"--shm-socket", socket()});
    auto engramd = std::make_unique<EngramdProcess>(flags);
    address_ = engramd->WaitUntilServing();
    return engramd;
  }
  absl::StatusOr<std::unique_ptr<Client>> Attach() const {
    return Client::Attach(absl::StrCat("auto:", address_), {});
  }
  static absl::Status LookUpAndCheck(Client& client) {
    const std::vector<int32_t> ids = RealTokenIds(100);
    const auto rows = LookUp(client, ids, RealClock().Now() + absl::Seconds(20));
    if (!rows.ok()) return rows.status();
    EXPECT_TRUE(*rows == ExpectedRows(client.table_set(), client.addresser(), ids));
    return absl::OkStatus();
  }

  ScratchDirectory scratch_;
  std::string address_;
};

TEST_F(AutoTest, TakesSharedMemoryOfTheSameMachine) {
  const auto engramd = Start(/*shm=*/true);
  const auto client = Attach();
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_EQ((*client)->transport().Describe(), "auto took shm");
  EXPECT_TRUE(LookUpAndCheck(**client).ok());
}

TEST_F(AutoTest, TakesGrpcWhereNothingElseIsAndSaysWhy) {
  const auto engramd = Start(/*shm=*/false);
  const auto client = Attach();
  ASSERT_TRUE(client.ok()) << client.status();
  const std::string what = (*client)->transport().Describe();
  EXPECT_THAT(what, StartsWith("auto took grpc (no shm: the owner offers none; no rdma: "));
  EXPECT_THAT(what, HasSubstr("--rdma-device"));
  EXPECT_TRUE(LookUpAndCheck(**client).ok());
}

TEST_F(AutoTest, LeavesSharedMemoryWhoseOwnerHasStoppedForGrpc) {
  auto engramd = Start(/*shm=*/true);
  const auto client = Attach();
  ASSERT_TRUE(client.ok()) << client.status();
  ASSERT_TRUE(LookUpAndCheck(**client).ok());
  engramd->Signal(SIGTERM);
  ASSERT_EQ(engramd->WaitForEnd(), 0);
  engramd = Start(/*shm=*/false, address_);
  const absl::Status status = LookUpAndCheck(**client);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_THAT((*client)->transport().Describe(), StartsWith("auto took grpc (left shm: "));
}

}  // namespace
}  // namespace engram::integration
