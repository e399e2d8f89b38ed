// Stores that register in a real etcd, and clients that find them there: what the fake etcd of the
// unit tests only supposes.
#include <signal.h>
#include <spdlog/sinks/null_sink.h>

#include <fstream>
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
#include "memstore/base/testing/fake_clock.h"
#include "memstore/discovery/registered_store.h"
#include "proto/etcd/etcd_client.h"
#include "server/cluster/registration.h"
#include "tests/cluster/etcd_process.h"
#include "tests/integration/certificates.h"

namespace engram::integration {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kPrefix[] = "engram/test";

class EtcdTest : public testing::Test {
 protected:
  EtcdTest() {
    options_.on_change = [this](const std::vector<StoreAddress>& addresses) {
      MutexLock lock(mutex_);
      addresses_.clear();
      for (const StoreAddress& one : addresses) addresses_.push_back(one.address);
      changed_.NotifyAll();
    };
    options_.on_problem = [this](const absl::Status& problem) {
      MutexLock lock(mutex_);
      problems_.push_back(problem);
      changed_.NotifyAll();
    };
  }
  void SetUp() override {
    if (!HasEtcd()) GTEST_SKIP() << "etcd and etcdctl are not installed";
  }
  void TearDown() override {
    discovery_.reset();
    registration_.reset();
  }

  static EtcdPlace Place(const EtcdProcess& etcd) { return {{etcd.endpoint()}, kPrefix}; }
  absl::Status Discover(const EtcdProcess& etcd, Clock& clock = RealClock()) {
    const ClusterTarget target{.source = ClusterTarget::Source::kEtcd, .etcd = Place(etcd)};
    auto discovery = Discovery::Create(target, options_, clock);
    if (discovery.ok()) discovery_ = *std::move(discovery);
    return discovery.status();
  }
  void Register(const EtcdProcess& etcd, const std::string& address) {
    auto registration = Registration::Start(
        {.place = Place(etcd), .address = address, .instance_id = "i1", .security = options_.etcd},
        &RealClock(), log_);
    ASSERT_TRUE(registration.ok()) << registration.status();
    registration_ = *std::move(registration);
  }
  void AwaitAddresses(const std::vector<std::string>& wanted) {
    MutexLock lock(mutex_);
    while (addresses_ != wanted) changed_.Wait(mutex_);
  }
  void AwaitProblem() {
    MutexLock lock(mutex_);
    while (problems_.empty()) changed_.Wait(mutex_);
  }
  static std::string PutLine(const std::string& id, const std::string& address) {
    return absl::StrCat("put ", kPrefix, "/", id, " address=", address);
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> addresses_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Status> problems_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<spdlog::logger> log_ =
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::null_sink_mt>());
  FakeClock clock_;
  DiscoveryOptions options_;
  std::unique_ptr<Discovery> discovery_;
  std::unique_ptr<Registration> registration_;
};

TEST_F(EtcdTest, AStoreIsFoundUntilItGoes) {
  EtcdProcess etcd;
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  EXPECT_THAT(discovery_->addresses(), IsEmpty());
  Register(etcd, "10.0.0.7:7300");
  AwaitAddresses({"10.0.0.7:7300"});
  EXPECT_EQ(etcd.Ctl(absl::StrCat("get --print-value-only ", kPrefix, "/i1")),
            "address=10.0.0.7:7300\n\n");
  etcd.Ctl(PutLine("i2", "10.0.0.8:7300"));
  etcd.Ctl(absl::StrCat("put ", kPrefix, "/i3 garbage"));
  AwaitAddresses({"10.0.0.7:7300", "10.0.0.8:7300"});
  registration_->Deregister();
  AwaitAddresses({"10.0.0.8:7300"});
  etcd.Ctl(PutLine("i4", "10.0.0.9:7300"));
  AwaitAddresses({"10.0.0.8:7300", "10.0.0.9:7300"});
  EXPECT_EQ(discovery_->ignored_keys(), 1u);
}

TEST_F(EtcdTest, AnAddressGoesWithItsLease) {
  EtcdProcess etcd;
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  etcd::ClientOptions options;
  options.endpoints = {etcd.endpoint()};
  options.credentials = etcd::MakeCredentials("", "");
  options.now = [] { return std::chrono::nanoseconds(RealClock().Now().nanoseconds()); };
  etcd::Client client(options, std::stop_token());
  // The shortest that etcd grants is about two.
  const auto lease = client.GrantLease(std::chrono::seconds(1));
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ(client.KeepAlive(*lease), absl::OkStatus());
  etcdserverpb::PutRequest put;
  put.set_key(StoreKey(Place(etcd), "i1"));
  put.set_value(StoreValue("10.0.0.7:7300"));
  put.set_lease(*lease);
  ASSERT_EQ(client.Put(put).status(), absl::OkStatus());
  AwaitAddresses({"10.0.0.7:7300"});
  AwaitAddresses({});
  EXPECT_EQ(client.KeepAlive(*lease).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(client.Put(put).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(EtcdTest, AddressesGoOnWhileEtcdIsDown) {
  EtcdProcess etcd;
  Register(etcd, "10.0.0.7:7300");
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  AwaitAddresses({"10.0.0.7:7300"});
  etcd.Kill();
  AwaitProblem();
  EXPECT_FALSE(discovery_->status().ok());
  EXPECT_THAT(discovery_->addresses(), SizeIs(1));
  etcd.Start();
  etcd.Ctl(PutLine("i2", "10.0.0.8:7300"));
  // Its lease went on, or it was registered anew.
  AwaitAddresses({"10.0.0.7:7300", "10.0.0.8:7300"});
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
}

TEST_F(EtcdTest, AStoreRegistersAnewInAnEtcdThatLostItsData) {
  EtcdProcess etcd;
  for (int i = 0; i < 5; ++i) etcd.Ctl(PutLine("gone", "10.0.0.1:7300"));
  Register(etcd, "10.0.0.7:7300");
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  AwaitAddresses({"10.0.0.1:7300", "10.0.0.7:7300"});
  etcd.Kill();
  etcd.Start(/*wiped=*/true);
  AwaitAddresses({"10.0.0.7:7300"});
}

TEST_F(EtcdTest, WhatWasCompactedIsListedAnew) {
  EtcdProcess etcd;
  etcd.Ctl(PutLine("i1", "10.0.0.1:7300"));
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  AwaitAddresses({"10.0.0.1:7300"});
  const int port = etcd.port();
  etcd.Kill();
  AwaitProblem();
  etcd.MoveTo(EtcdProcess::FreePort());
  etcd.Start();
  etcd.Ctl(absl::StrCat("del ", kPrefix, "/i1"));
  etcd.Ctl(PutLine("i2", "10.0.0.2:7300"));
  // The newest revision, by the put before: 1, and one a change.
  etcd.Ctl("compact 4");
  etcd.Kill();
  etcd.MoveTo(port);
  etcd.Start();
  AwaitAddresses({"10.0.0.2:7300"});
}

TEST_F(EtcdTest, AnEtcdThatIsStoppedIsNoticed) {
  EtcdProcess etcd;
  etcd.Ctl(PutLine("i1", "10.0.0.1:7300"));
  ASSERT_EQ(Discover(etcd, clock_), absl::OkStatus());
  // Silent, and alive: it answers when it is asked.
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(absl::Seconds(4));
    etcd.Ctl("get a-key");
  }
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
  etcd.Signal(SIGSTOP);
  while (discovery_->status().ok()) clock_.Advance(absl::Milliseconds(10));
  EXPECT_EQ(discovery_->status().code(), absl::StatusCode::kDeadlineExceeded);
  etcd.Signal(SIGCONT);
  etcd.Ctl(PutLine("i2", "10.0.0.2:7300"));
  // It waits before it tries again.
  clock_.AwaitWaiters(1);
  clock_.Advance(absl::Seconds(1));
  AwaitAddresses({"10.0.0.1:7300", "10.0.0.2:7300"});
  EXPECT_EQ(discovery_->status(), absl::OkStatus());
}

class EtcdTlsTest : public EtcdTest {
 protected:
  const std::string directory_ = testing::TempDir();
  const CertificateFiles authority_ = MakeAuthority(directory_, "etcd-ca");
  const CertificateFiles server_ =
      MakeCertificate(authority_, directory_, "etcd", "DNS:localhost,IP:127.0.0.1");
  const CertificateFiles store_ = MakeCertificate(authority_, directory_, "store", "DNS:store");
  const CertificateFiles other_ = MakeAuthority(directory_, "other-ca");
  const std::string shown_ =
      absl::StrCat("--cacert ", authority_.cert, " --cert ", store_.cert, " --key ", store_.key);
  const std::vector<std::string> flags_ = {
      "--cert-file",       server_.cert,    "--key-file",        server_.key,
      "--trusted-ca-file", authority_.cert, "--client-cert-auth"};
};

TEST_F(EtcdTlsTest, BothEndsShowCertificates) {
  EtcdProcess etcd(flags_, /*tls=*/true, shown_);
  options_.etcd = {.ca = authority_.cert, .cert = store_.cert, .key = store_.key};
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  Register(etcd, "10.0.0.7:7300");
  AwaitAddresses({"10.0.0.7:7300"});
  etcd.Kill();
  etcd.Start();
  etcd.Ctl(PutLine("i2", "10.0.0.8:7300"));
  AwaitAddresses({"10.0.0.7:7300", "10.0.0.8:7300"});
}

TEST_F(EtcdTlsTest, AnotherAuthorityIsNotTrusted) {
  EtcdProcess etcd(flags_, /*tls=*/true, shown_);
  options_.etcd = {.ca = other_.cert, .cert = store_.cert, .key = store_.key};
  const absl::Status status = Discover(etcd);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no TLS with it"));
  Register(etcd, "10.0.0.7:7300");
  while (registration_->status().failures == 0) std::this_thread::yield();
  EXPECT_FALSE(registration_->status().registered);
}

TEST_F(EtcdTlsTest, WhoShowsNoCertificateIsRefused) {
  EtcdProcess etcd(flags_, /*tls=*/true, shown_);
  options_.etcd = {.ca = authority_.cert};
  EXPECT_EQ(Discover(etcd).code(), absl::StatusCode::kUnavailable);
  // And in the clear nobody gets anywhere.
  options_.etcd = {};
  EXPECT_EQ(Discover(etcd).code(), absl::StatusCode::kUnavailable);
}

class EtcdUserTest : public EtcdTest {
 protected:
  void WritePassword(const std::string& text) { std::ofstream(password_file_) << text << "\n"; }
  // A user who may have the cluster's keys and no others.
  void MakeUser(EtcdProcess& etcd) {
    etcd.Ctl("user add root:rootword");
    etcd.Ctl("role add stores");
    etcd.Ctl(absl::StrCat("role grant-permission stores --prefix=true readwrite ", kPrefix, "/"));
    etcd.Ctl("user add store:storeword");
    etcd.Ctl("user grant-role store stores");
    etcd.Ctl("auth enable");
    etcd.SetCtlFlags("--user root:rootword");
    WritePassword("storeword");
    options_.etcd = {.user = "store", .password_file = password_file_};
  }

  const std::string password_file_ = testing::TempDir() + "/etcd-password";
};

TEST_F(EtcdUserTest, AUserRegistersAndFinds) {
  EtcdProcess etcd;
  MakeUser(etcd);
  ASSERT_EQ(Discover(etcd), absl::OkStatus());
  Register(etcd, "10.0.0.7:7300");
  AwaitAddresses({"10.0.0.7:7300"});
  // It forgets the tokens that it gave.
  etcd.Kill();
  etcd.Start();
  etcd.Ctl(PutLine("i2", "10.0.0.8:7300"));
  AwaitAddresses({"10.0.0.7:7300", "10.0.0.8:7300"});
  registration_.reset();
  AwaitAddresses({"10.0.0.8:7300"});
}

TEST_F(EtcdUserTest, OthersAreRefused) {
  EtcdProcess etcd;
  MakeUser(etcd);
  WritePassword("wrong");
  const absl::Status wrong = Discover(etcd);
  EXPECT_EQ(wrong.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_THAT(std::string(wrong.message()), HasSubstr("refuses user store"));
  options_.etcd = {};
  EXPECT_FALSE(Discover(etcd).ok());
}

}  // namespace
}  // namespace engram::integration
