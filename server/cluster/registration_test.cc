#include "server/cluster/registration.h"

#include <spdlog/sinks/ostream_sink.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/testing/fake_clock.h"
#include "proto/etcd/testing/fake_etcd.h"
#include "server/cluster/instance_id.h"

namespace engram {
namespace {

using etcd::FakeEtcd;
using testing::HasSubstr;
using testing::IsEmpty;

class RegistrationTest : public testing::Test {
 protected:
  absl::Status Start(const std::string& endpoints) {
    options_.place = *ParseEtcdPlace(absl::StrCat(endpoints, "/engram"));
    options_.address = "10.0.0.7:7300";
    options_.instance_id = "i1";
    auto registration = Registration::Start(options_, &clock_, log_);
    if (registration.ok()) registration_ = *std::move(registration);
    return registration.status();
  }
  void Begin() {
    ASSERT_EQ(Start(etcd_.endpoint()), absl::OkStatus());
    AwaitRegistered();
  }
  void AwaitRegistered() {
    etcd_.Await([&] { return registration_->status().registered; });
    clock_.AwaitWaiters(1);
  }
  // What is due is done, and it waits again.
  void Advance(absl::Duration span) {
    clock_.AwaitWaiters(1);
    clock_.Advance(span);
  }
  void AwaitFailures(uint64_t count) {
    etcd_.Await([&] { return registration_->status().failures >= count; });
  }
  size_t Lines(absl::string_view words) {
    size_t lines = 0;
    std::istringstream text(log_text_.str());
    for (std::string line; std::getline(text, line);) lines += absl::StrContains(line, words);
    return lines;
  }
  // Of the thread all lines are there then.
  void End() { registration_.reset(); }

  const std::map<std::string, std::string> kThere{{"engram/i1", "address=10.0.0.7:7300\n"}};
  FakeEtcd etcd_;
  FakeClock clock_;
  std::ostringstream log_text_;
  std::shared_ptr<spdlog::logger> log_ = std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_text_));
  RegistrationOptions options_;
  std::unique_ptr<Registration> registration_;
};

TEST_F(RegistrationTest, PutsItsKeyAndKeepsItAlive) {
  Begin();
  EXPECT_EQ(etcd_.values(), kThere);
  for (uint64_t times = 1; times < 6; ++times) {
    Advance(Registration::kKeepAlive);
    etcd_.Await([&] { return etcd_.keep_alives() >= times; });
  }
  clock_.AwaitWaiters(1);
  EXPECT_TRUE(registration_->status().registered);
  EXPECT_EQ(registration_->status().failures, 0u);
  EXPECT_EQ(etcd_.leases(), 1u);
  End();
  EXPECT_EQ(Lines("registered as 10.0.0.7:7300"), 1u);
}

TEST_F(RegistrationTest, TakesItsKeyBack) {
  Begin();
  registration_->Deregister();
  etcd_.Await([&] { return etcd_.values().empty() && etcd_.leases() == 0; });
  EXPECT_FALSE(registration_->status().registered);
  End();
  EXPECT_EQ(Lines("took the key engram/i1 back"), 1u);
}

TEST_F(RegistrationTest, RegistersAnewWhenItsLeaseIsLost) {
  Begin();
  etcd_.ExpireLeases();
  EXPECT_THAT(etcd_.values(), IsEmpty());
  Advance(Registration::kKeepAlive);
  etcd_.Await([&] { return etcd_.values() == kThere; });
  AwaitRegistered();
  EXPECT_EQ(registration_->status().failures, 1u);
}

TEST_F(RegistrationTest, PutsAKeyAgainThatSomebodyDeleted) {
  Begin();
  etcd_.Delete("engram/i1");
  Advance(Registration::kKeepAlive);
  etcd_.Await([&] { return etcd_.values() == kThere; });
  EXPECT_EQ(etcd_.leases(), 1u);
  EXPECT_EQ(registration_->status().failures, 0u);
}

TEST_F(RegistrationTest, TriesAgainWhileEtcdIsDown) {
  etcd_.Stop();
  ASSERT_EQ(Start(etcd_.endpoint()), absl::OkStatus());
  AwaitFailures(1);
  Advance(Registration::kFirstDelay);
  AwaitFailures(2);
  EXPECT_FALSE(registration_->status().registered);
  etcd_.Start();
  Advance(2 * Registration::kFirstDelay);
  AwaitRegistered();
  EXPECT_EQ(etcd_.values(), kThere);
  End();
  EXPECT_EQ(Lines("not registered in etcd"), 1u);
  EXPECT_EQ(Lines("Connection refused"), 1u);
}

TEST_F(RegistrationTest, IsNotRegisteredOnceTheLeasesTimeHasPassed) {
  Begin();
  etcd_.Stop();
  Advance(Registration::kKeepAlive);
  AwaitFailures(1);
  EXPECT_TRUE(registration_->status().registered);
  clock_.Advance(absl::FromChrono(Registration::kLease) - Registration::kKeepAlive);
  EXPECT_FALSE(registration_->status().registered);
}

TEST_F(RegistrationTest, TakesTheNextEndpoint) {
  FakeEtcd down;
  const std::string nobody = down.endpoint();
  down.Stop();
  ASSERT_EQ(Start(absl::StrCat(nobody, ",", etcd_.endpoint())), absl::OkStatus());
  AwaitRegistered();
  EXPECT_EQ(registration_->status().failures, 1u);
  End();
  EXPECT_THAT(etcd_.values(), IsEmpty());
}

TEST_F(RegistrationTest, EndsAtOnceWhereEtcdIsDown) {
  etcd_.Stop();
  ASSERT_EQ(Start(etcd_.endpoint()), absl::OkStatus());
  AwaitFailures(1);
  End();
}

TEST_F(RegistrationTest, ShowsAToken) {
  etcd_.RequireUser("store", "secret");
  options_.security.user = "store";
  options_.security.password_file = testing::TempDir() + "/password";
  std::ofstream(options_.security.password_file) << "secret\n";
  Begin();
  EXPECT_EQ(etcd_.values(), kThere);
  etcd_.RefuseTokens();
  Advance(Registration::kKeepAlive);
  etcd_.Await([&] { return etcd_.authentications() >= 2; });
  clock_.AwaitWaiters(1);
  EXPECT_EQ(registration_->status().failures, 0u);
  End();
  EXPECT_THAT(etcd_.values(), IsEmpty());
}

TEST_F(RegistrationTest, RefusesFilesThatCannotBeUsed) {
  options_.security.ca = "/nowhere/ca.crt";
  EXPECT_THAT(std::string(Start(etcd_.endpoint()).message()), HasSubstr("/nowhere/ca.crt"));
}

TEST(InstanceId, IsAnothersEachTime) {
  const std::string one = MakeInstanceId();
  EXPECT_EQ(one.size(), 32u);
  EXPECT_NE(one, MakeInstanceId());
}

}  // namespace
}  // namespace engram
