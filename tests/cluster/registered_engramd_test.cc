// engramd --register, with a real etcd and without one.
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/etcd_process.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using testing::HasSubstr;

class RegisteredEngramdTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!HasEtcd()) GTEST_SKIP() << "etcd and etcdctl are not installed";
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
  }
  std::vector<std::string> Flags(const std::string& endpoint) const {
    return {"--table-set", scratch_ / "set",      "--listen",
            "127.0.0.1:0", "--register",          absl::StrCat("etcd:", endpoint, "/engram"),
            "--advertise", "store-7.example:7300"};
  }
  static std::string Registered(EtcdProcess& etcd) {
    return etcd.Ctl("get --prefix --print-value-only engram/");
  }

  ScratchDirectory scratch_;
};

TEST_F(RegisteredEngramdTest, IsThereWhileItServes) {
  EtcdProcess etcd;
  EngramdProcess engramd(Flags(etcd.endpoint()));
  ASSERT_TRUE(engramd.WaitForLine("registered as store-7.example:7300"));
  EXPECT_THAT(Registered(etcd), HasSubstr("address=store-7.example:7300"));
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
  EXPECT_EQ(Registered(etcd), "");
  EXPECT_THAT(engramd.Log(), HasSubstr("took the key engram/"));
}

TEST_F(RegisteredEngramdTest, GoesWithItsLeaseWhenItIsKilled) {
  EtcdProcess etcd;
  EngramdProcess engramd(Flags(etcd.endpoint()));
  ASSERT_TRUE(engramd.WaitForLine("registered as"));
  engramd.Signal(SIGKILL);
  EXPECT_EQ(engramd.WaitForEnd(), -SIGKILL);
  while (!Registered(etcd).empty()) {
  }
}

TEST_F(RegisteredEngramdTest, ServesWithoutEtcd) {
  const std::string nobody = absl::StrCat("127.0.0.1:", EtcdProcess::FreePort());
  EngramdProcess engramd(Flags(nobody));
  ASSERT_TRUE(engramd.WaitForLine("not registered in etcd"));
  EXPECT_FALSE(engramd.WaitUntilServing().empty());
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
}

}  // namespace
}  // namespace engram::integration
