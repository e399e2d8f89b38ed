#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cluster/discovery/cluster_target.h"
#include "client/cluster/discovery/discovery.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/discovery/registered_store.h"
#include "proto/etcd/testing/fake_etcd.h"

namespace engram {
namespace {

using etcd::FakeEtcd;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// What a discovery tells, kept.
class Told {
 public:
  void SetUp(DiscoveryOptions& options) {
    options.on_change = [this](const std::vector<StoreAddress>& addresses) {
      MutexLock lock(mutex_);
      addresses_ = addresses;
      changed_.NotifyAll();
    };
    options.on_problem = [this](const absl::Status& problem) {
      MutexLock lock(mutex_);
      problems_.push_back(problem);
      changed_.NotifyAll();
    };
  }
  void AwaitAddresses(const std::vector<std::string>& wanted) {
    MutexLock lock(mutex_);
    while (Words() != wanted) changed_.Wait(mutex_);
  }
  void AwaitProblems(size_t count) {
    MutexLock lock(mutex_);
    while (problems_.size() < count) changed_.Wait(mutex_);
  }
  std::vector<absl::Status> problems() {
    MutexLock lock(mutex_);
    return problems_;
  }

 private:
  std::vector<std::string> Words() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::vector<std::string> words;
    for (const StoreAddress& one : addresses_) words.push_back(one.address);
    return words;
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<StoreAddress> addresses_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> problems_ ABSL_GUARDED_BY(mutex_);
};

class EtcdDiscoveryTest : public testing::Test {
 protected:
  EtcdDiscoveryTest() { told_.SetUp(options_); }
  // What is told uses told_.
  ~EtcdDiscoveryTest() override { discovery_.reset(); }

  absl::Status Create(const std::string& endpoints) {
    const auto target = ParseClusterTarget(absl::StrCat("etcd:", endpoints, "/engram"));
    EXPECT_TRUE(target.ok()) << target.status();
    auto discovery = Discovery::Create(*target, options_, RealClock());
    if (!discovery.ok()) return discovery.status();
    discovery_ = *std::move(discovery);
    return absl::OkStatus();
  }
  void Begin() { ASSERT_EQ(Create(etcd_.endpoint()), absl::OkStatus()); }
  static std::string At(const std::string& address) { return StoreValue(address); }
  void AwaitWatches(size_t count) {
    etcd_.Await([&] { return etcd_.watched_from().size() >= count; });
  }

  FakeEtcd etcd_;
  Told told_;
  DiscoveryOptions options_;
  std::unique_ptr<Discovery> discovery_;
};

TEST_F(EtcdDiscoveryTest, ListsAndFollows) {
  etcd_.Put("engram/b", At("b:1"));
  etcd_.Put("engram0", At("other:1"));
  etcd_.Put("engra", At("other:2"));
  options_.tls_server_name = "stores";
  Begin();
  EXPECT_THAT(discovery_->addresses(), ElementsAre(StoreAddress{"b:1", "stores"}));
  etcd_.Put("engram/a", At("a:1"));
  told_.AwaitAddresses({"a:1", "b:1"});
  etcd_.Delete("engram/b");
  told_.AwaitAddresses({"a:1"});
  etcd_.Put("engram/a", At("a:2"));
  told_.AwaitAddresses({"a:2"});
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
  EXPECT_THAT(told_.problems(), IsEmpty());
  EXPECT_EQ(etcd_.ranges(), 1u);
}

TEST_F(EtcdDiscoveryTest, GoesOnFromWhatItSawWhenAWatchBreaks) {
  etcd_.Put("engram/a", At("a:1"));
  Begin();
  AwaitWatches(1);
  etcd_.Put("engram/b", At("b:1"));
  told_.AwaitAddresses({"a:1", "b:1"});
  // Others' keys move the revision, and no watch of this one sees it.
  etcd_.Put("other/x", "1");
  etcd_.BreakWatches();
  AwaitWatches(2);
  etcd_.Put("engram/c", At("c:1"));
  told_.AwaitAddresses({"a:1", "b:1", "c:1"});
  EXPECT_THAT(etcd_.watched_from(), ElementsAre(3, 4));
  EXPECT_EQ(etcd_.ranges(), 1u);  // not listed anew
}

TEST_F(EtcdDiscoveryTest, KeepsAddressesWhileEtcdIsDownAndFollowsAfter) {
  etcd_.Put("engram/a", At("a:1"));
  Begin();
  AwaitWatches(1);
  etcd_.Stop();
  told_.AwaitProblems(1);
  EXPECT_EQ(discovery_->status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(discovery_->status().message()), HasSubstr("the last addresses go on"));
  EXPECT_THAT(discovery_->addresses(), ElementsAre(StoreAddress{"a:1"}));
  etcd_.Put("engram/b", At("b:1"));  // seen from its log, once it is there again
  etcd_.Start();
  told_.AwaitAddresses({"a:1", "b:1"});
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
  EXPECT_EQ(etcd_.ranges(), 1u);
  EXPECT_THAT(told_.problems(), SizeIs(1));  // told once, however often it was tried
}

TEST_F(EtcdDiscoveryTest, ListsAnewWhatWasCompacted) {
  etcd_.Put("engram/a", At("a:1"));
  Begin();
  AwaitWatches(1);
  etcd_.Stop();
  etcd_.Delete("engram/a");
  etcd_.Put("engram/b", At("b:1"));
  etcd_.Compact();
  etcd_.Start();
  told_.AwaitAddresses({"b:1"});
  EXPECT_EQ(etcd_.ranges(), 2u);
}

TEST_F(EtcdDiscoveryTest, ListsAnewWhenTheRevisionWentBack) {
  for (int i = 0; i < 9; ++i) etcd_.Put("engram/a", At(absl::StrCat("a:", i + 1)));
  Begin();
  AwaitWatches(1);
  etcd_.Stop();
  etcd_.Restore({{"engram/old", At("old:1")}}, 5, 77);
  etcd_.Start();
  told_.AwaitAddresses({"old:1"});
  etcd_.Put("engram/new", At("new:1"));
  told_.AwaitAddresses({"new:1", "old:1"});
}

TEST_F(EtcdDiscoveryTest, ListsAnewAtAnotherCluster) {
  etcd_.Put("engram/a", At("a:1"));
  Begin();
  AwaitWatches(1);
  etcd_.Stop();
  etcd_.Restore({{"engram/b", At("b:1")}}, 100, 78);
  etcd_.Start();
  told_.AwaitAddresses({"b:1"});
}

TEST_F(EtcdDiscoveryTest, TakesTheNextEndpointWhereOneIsDown) {
  FakeEtcd down;
  const std::string nobody = down.endpoint();
  down.Stop();
  etcd_.Put("engram/a", At("a:1"));
  ASSERT_EQ(Create(absl::StrCat(nobody, ",", etcd_.endpoint())), absl::OkStatus());
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  etcd_.Put("engram/b", At("b:1"));
  told_.AwaitAddresses({"a:1", "b:1"});
}

TEST_F(EtcdDiscoveryTest, SaysAtTheStartWhichEndpointsAreDown) {
  const std::string nobody = etcd_.endpoint();
  etcd_.Stop();
  const absl::Status status = Create(nobody);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr(nobody));
}

TEST_F(EtcdDiscoveryTest, MayBeEmptyAtTheStart) {
  Begin();
  EXPECT_THAT(discovery_->addresses(), IsEmpty());
  etcd_.Put("engram/a", At("a:1"));
  told_.AwaitAddresses({"a:1"});
}

TEST_F(EtcdDiscoveryTest, IgnoresWhatIsNoStores) {
  etcd_.Put("engram/a", At("a:1"));
  etcd_.Put("engram/junk", "\x01\x02");
  etcd_.Put("engram/deep/er", At("d:1"));
  Begin();
  EXPECT_THAT(discovery_->addresses(), ElementsAre(StoreAddress{"a:1"}));
  EXPECT_EQ(discovery_->ignored_keys(), 2u);
  etcd_.Put("engram/junk", "more");  // counted, and not told again
  etcd_.Put("engram/a", "no more a store");
  told_.AwaitAddresses({});
  EXPECT_EQ(discovery_->ignored_keys(), 4u);
  EXPECT_THAT(told_.problems(), SizeIs(3));
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
}

TEST_F(EtcdDiscoveryTest, KeepsAnAddressUntilBothOfItsStoresHaveGone) {
  etcd_.Put("engram/a", At("a:1"));
  etcd_.Put("engram/b", At("a:1"));
  Begin();
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  etcd_.Delete("engram/a");
  etcd_.Put("engram/c", At("c:1"));
  told_.AwaitAddresses({"a:1", "c:1"});
  etcd_.Delete("engram/b");
  told_.AwaitAddresses({"c:1"});
}

class EtcdUserTest : public EtcdDiscoveryTest {
 protected:
  EtcdUserTest() {
    etcd_.Put("engram/a", At("a:1"));
    WritePassword("secret\n");
    options_.etcd.user = "reader";
    options_.etcd.password_file = path_;
  }
  void WritePassword(const std::string& text) { std::ofstream(path_) << text; }

  const std::string path_ = testing::TempDir() + "/password";
};

TEST_F(EtcdUserTest, ShowsATokenAndRenewsOneThatIsRefused) {
  etcd_.RequireUser("reader", "secret");
  Begin();
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  AwaitWatches(1);
  EXPECT_EQ(etcd_.authentications(), 1u);
  etcd_.RefuseTokens();
  etcd_.BreakWatches();
  etcd_.Put("engram/b", At("b:1"));
  told_.AwaitAddresses({"a:1", "b:1"});
  EXPECT_EQ(etcd_.authentications(), 2u);
}

TEST_F(EtcdUserTest, IsToldThatAPasswordIsWrong) {
  etcd_.RequireUser("reader", "another");
  const absl::Status status = Create(etcd_.endpoint());
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()), HasSubstr("refuses user reader"));
}

TEST_F(EtcdUserTest, GoesWithoutWhereEtcdHasNoUsers) {
  Begin();
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  // Users are made meanwhile.
  AwaitWatches(1);
  etcd_.RequireUser("reader", "secret");
  etcd_.BreakWatches();
  etcd_.Put("engram/b", At("b:1"));
  told_.AwaitAddresses({"a:1", "b:1"});
}

// No such file may come while a client attaches, as a name's records may (NOT_FOUND).
TEST_F(EtcdUserTest, AFileThatIsNotThereIsFinal) {
  options_.etcd.password_file = "/no/password";
  absl::Status status = Create(etcd_.endpoint());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/password"));
  options_.etcd = {.ca = "/no/ca.pem"};
  status = Create(etcd_.endpoint());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/ca.pem"));
}

TEST_F(EtcdUserTest, IsRefusedWhereThePasswordWouldTravelInTheClear) {
  const absl::Status status = Create("10.255.255.1:2379");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("in the clear"));
}

}  // namespace
}  // namespace engram
