#include "client/cluster/discovery/dns_discovery.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/cluster/discovery/cluster_target.h"
#include "client/cluster/discovery/discovery.h"
#include "client/cluster/discovery/resolver.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/mutex.h"
#include "memstore/base/testing/fake_clock.h"

namespace engram {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

using Answer = absl::StatusOr<std::vector<std::string>>;

// A name server of the test's: gives one answer until it is told another.
class Names {
 public:
  explicit Names(Answer answer) : answer_(std::move(answer)) {}
  Resolver resolver() {
    return [this](const std::string& name, const std::string& port) {
      MutexLock lock(mutex_);
      asked_ = name + ":" + port;
      ++times_;
      changed_.NotifyAll();
      return answer_;
    };
  }
  void Set(Answer answer) {
    MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }
  void AwaitTimes(int times) {
    MutexLock lock(mutex_);
    while (times_ < times) changed_.Wait(mutex_);
  }
  int times() {
    MutexLock lock(mutex_);
    return times_;
  }
  std::string asked() {
    MutexLock lock(mutex_);
    return asked_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  Answer answer_ ABSL_GUARDED_BY(mutex_);
  std::string asked_ ABSL_GUARDED_BY(mutex_);
  int times_ ABSL_GUARDED_BY(mutex_) = 0;
};

class DnsDiscoveryTest : public testing::Test {
 protected:
  absl::Status Create() {
    options_.resolver = names_.resolver();
    auto discovery = Discovery::Create(*ParseClusterTarget("dns:stores:7300"), options_, clock_);
    if (!discovery.ok()) return discovery.status();
    discovery_ = *std::move(discovery);
    return absl::OkStatus();
  }
  // Returns when the thread has looked and waits again.
  void LookAfter(absl::Duration span) {
    const int times = names_.times();
    clock_.AwaitWaiters(1);
    clock_.Advance(span);
    names_.AwaitTimes(times + 1);
    clock_.AwaitWaiters(1);
  }

  FakeClock clock_;
  Names names_{std::vector<std::string>{"10.0.0.1:7300", "10.0.0.2:7300"}};
  DiscoveryOptions options_;
  std::unique_ptr<Discovery> discovery_;
};

TEST_F(DnsDiscoveryTest, GivesEveryRecordWithTheNameForTls) {
  ASSERT_EQ(Create(), absl::OkStatus());
  EXPECT_EQ(names_.asked(), "stores:7300");
  EXPECT_THAT(discovery_->addresses(), ElementsAre(StoreAddress{"10.0.0.1:7300", "stores"},
                                                   StoreAddress{"10.0.0.2:7300", "stores"}));
}

TEST_F(DnsDiscoveryTest, TakesTheNameForTlsThatIsConfigured) {
  options_.tls_server_name = "engram.example";
  ASSERT_EQ(Create(), absl::OkStatus());
  EXPECT_EQ(discovery_->addresses()[0].tls_server_name, "engram.example");
}

TEST_F(DnsDiscoveryTest, LooksAgainNowAndThen) {
  std::vector<std::vector<StoreAddress>> told;
  options_.on_change = [&](const std::vector<StoreAddress>& addresses) {
    told.push_back(addresses);
  };
  ASSERT_EQ(Create(), absl::OkStatus());
  LookAfter(DnsDiscovery::kLookUpPeriod);  // nothing has changed
  names_.Set(std::vector<std::string>{"10.0.0.2:7300", "10.0.0.3:7300"});
  LookAfter(DnsDiscovery::kLookUpPeriod);
  EXPECT_THAT(discovery_->addresses(), SizeIs(2));
  EXPECT_EQ(discovery_->addresses()[1].address, "10.0.0.3:7300");
  discovery_.reset();
  EXPECT_THAT(told, SizeIs(2));  // at the start, and what has changed
}

TEST_F(DnsDiscoveryTest, LooksSoonWhenAsked) {
  ASSERT_EQ(Create(), absl::OkStatus());
  clock_.AwaitWaiters(1);
  names_.Set(std::vector<std::string>{"10.0.0.9:7300"});
  discovery_->LookAgain();
  discovery_->LookAgain();
  LookAfter(DnsDiscovery::kLookUpSpace);
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  EXPECT_EQ(names_.times(), 2);  // once for both
}

TEST_F(DnsDiscoveryTest, IsRefusedWithoutRecords) {
  names_.Set(absl::NotFoundError("stores has no record"));
  const absl::Status status = Create();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("stores has no record"));
}

TEST_F(DnsDiscoveryTest, KeepsWhatItHadWhenRecordsGo) {
  std::vector<absl::Status> problems;
  options_.on_problem = [&](const absl::Status& problem) { problems.push_back(problem); };
  ASSERT_EQ(Create(), absl::OkStatus());
  names_.Set(absl::NotFoundError("stores has no record"));
  LookAfter(DnsDiscovery::kLookUpPeriod);
  LookAfter(DnsDiscovery::kLookUpPeriod);
  EXPECT_THAT(discovery_->addresses(), SizeIs(2));
  EXPECT_EQ(discovery_->status().code(), absl::StatusCode::kNotFound);
  names_.Set(std::vector<std::string>{"10.0.0.1:7300"});
  LookAfter(DnsDiscovery::kLookUpPeriod);
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  discovery_.reset();
  EXPECT_THAT(problems, SizeIs(1));
}

TEST(SystemResolver, FindsThisMachine) {
  const Answer found = SystemResolver()("localhost", "7300");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_THAT(*found, testing::AnyOf(Contains("127.0.0.1:7300"), Contains("[::1]:7300")));
  EXPECT_THAT(SystemResolver()("127.0.0.7", "1").value(), ElementsAre("127.0.0.7:1"));
  EXPECT_THAT(SystemResolver()("::1", "1").value(), ElementsAre("[::1]:1"));
}

TEST(SystemResolver, SaysThatANameIsNone) {
  // Reserved (RFC 6761); without a network nobody answers.
  const absl::Status status = SystemResolver()("stores.invalid", "1").status();
  EXPECT_THAT(status.code(),
              testing::AnyOf(absl::StatusCode::kNotFound, absl::StatusCode::kUnavailable));
  EXPECT_THAT(std::string(status.message()), HasSubstr("stores.invalid"));
}

TEST(ListDiscovery, GivesItsAddresses) {
  FakeClock clock;
  const auto discovery = Discovery::Create(*ParseClusterTarget("b:1,unix:/run/e.sock,a:1"),
                                           {.tls_server_name = "s"}, clock);
  ASSERT_TRUE(discovery.ok()) << discovery.status();
  EXPECT_THAT((*discovery)->addresses(),
              ElementsAre(StoreAddress{"a:1", "s"}, StoreAddress{"b:1", "s"},
                          StoreAddress{"unix:/run/e.sock", "s"}));
  (*discovery)->LookAgain();
  EXPECT_EQ((*discovery)->status(), absl::OkStatus());
}

}  // namespace
}  // namespace engram
