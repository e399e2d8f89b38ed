// Attaching by a real etcd that knows its callers by other certificates, and by users, than the
// stores that it leads to: what each side is shown, and what is said where it does not do.
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/etcd_process.h"
#include "tests/integration/certificates.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kLocal[] = "DNS:localhost,IP:127.0.0.1";

// A store and an etcd, each with an authority of its own; etcd wants certificates.
class EtcdAttachTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasEtcd()) GTEST_SKIP() << "etcd and etcdctl are not installed";
    PackSmallSet("deepseek-v4.1-flash", 100, scratch_ / "set");
    const std::string directory = scratch_ / "";
    stores_ca_ = MakeAuthority(directory, "stores-ca");
    store_ = MakeCertificate(stores_ca_, directory, "store", kLocal);
    etcd_ca_ = MakeAuthority(directory, "etcd-ca");
    caller_ = MakeCertificate(etcd_ca_, directory, "caller", "DNS:caller");
  }
  // `names`: of etcd's certificate.
  void StartEtcd(const std::string& names) {
    const CertificateFiles server = MakeCertificate(etcd_ca_, scratch_ / "", "etcd", names);
    etcd_ = std::make_unique<EtcdProcess>(
        std::vector<std::string>{"--cert-file", server.cert, "--key-file", server.key,
                                 "--trusted-ca-file", etcd_ca_.cert, "--client-cert-auth"},
        /*tls=*/true,
        absl::StrCat("--cacert ", etcd_ca_.cert, " --cert ", caller_.cert, " --key ", caller_.key,
                     " --insecure-skip-tls-verify"));
  }
  // Registered; `tls`: of its port for lookups.
  void StartStore(const std::vector<std::string>& tls, const std::vector<std::string>& etcd) {
    const std::string address = absl::StrCat("127.0.0.1:", EtcdProcess::FreePort());
    std::vector<std::string> flags = {
        "--table-set", scratch_ / "set",
        "--listen",    address,
        "--advertise", address,
        "--register",  absl::StrCat("etcd:", etcd_->endpoint(), "/engram")};
    flags.insert(flags.end(), tls.begin(), tls.end());
    flags.insert(flags.end(), etcd.begin(), etcd.end());
    engramd_ = std::make_unique<EngramdProcess>(flags);
    engramd_->WaitUntilServing();
    ASSERT_TRUE(engramd_->WaitForLine("registered as"));
  }
  std::vector<std::string> StoreTls() const {
    return {"--tls-cert", store_.cert, "--tls-key", store_.key};
  }
  std::string target() const { return absl::StrCat("cluster:etcd:", etcd_->endpoint(), "/engram"); }
  EtcdSecurity Caller() const {
    return {.ca = etcd_ca_.cert, .cert = caller_.cert, .key = caller_.key};
  }

  void ExpectRows(const SecurityOptions& security, const EtcdSecurity& etcd) const {
    const auto client = Client::Attach(
        target(), {.timeout = absl::Seconds(60), .security = security, .etcd = etcd});
    ASSERT_TRUE(client.ok()) << client.status();
    const std::vector<int32_t> ids = RealTokenIds(50);
    const auto rows = LookUp(**client, ids, RealClock().After(absl::Seconds(30)));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows((*client)->table_set(), (*client)->addresser(), ids));
  }
  std::string Error(const SecurityOptions& security, const EtcdSecurity& etcd,
                    absl::StatusCode code) const {
    const absl::Status status =
        Client::Attach(target(), {.timeout = absl::Seconds(1), .security = security, .etcd = etcd})
            .status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }

  ScratchDirectory scratch_;
  CertificateFiles stores_ca_, store_, etcd_ca_, caller_;
  std::unique_ptr<EtcdProcess> etcd_;
  std::unique_ptr<EngramdProcess> engramd_;
};

TEST_F(EtcdAttachTest, EtcdAndStoresAreOfDifferentAuthorities) {
  StartEtcd(kLocal);
  StartStore(StoreTls(), {"--register-ca", etcd_ca_.cert, "--register-cert", caller_.cert,
                          "--register-key", caller_.key});
  const SecurityOptions stores = {.tls_ca = stores_ca_.cert};
  ExpectRows(stores, Caller());
  // The command: flags, and what they leave open.
  const std::vector<int32_t> ids = RealTokenIds(5);
  WriteFile(scratch_ / "ids", {reinterpret_cast<const char*>(ids.data()), ids.size() * 4});
  const std::string line =
      absl::StrCat("ENGRAM_ETCD_CERT=", caller_.cert, " ENGRAM_ETCD_KEY=", caller_.key,
                   " $ENGRAM lookup", " --target ", target(), " --token-ids ", scratch_ / "ids",
                   " --output /dev/null", " --attach-timeout 20 --tls-ca ", stores_ca_.cert);
  const Outcome looked_up = RunShell(absl::StrCat(line, " --etcd-ca ", etcd_ca_.cert));
  EXPECT_EQ(looked_up.exit_code, 0) << looked_up.err;
  const Outcome refused = RunShell(line);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--etcd-ca FILE"));
}

TEST_F(EtcdAttachTest, WhatEtcdOrThisSideDoesNotTakeIsSaid) {
  StartEtcd(kLocal);
  const SecurityOptions stores = {.tls_ca = stores_ca_.cert};
  EtcdSecurity wrong = Caller();
  wrong.ca = stores_ca_.cert;
  EXPECT_THAT(Error(stores, wrong, absl::StatusCode::kUnauthenticated),
              AllOf(HasSubstr(etcd_->endpoint()), HasSubstr("no TLS with it")));
  // The stores' authority is etcd's where no other is given: addresses never come in the clear.
  EXPECT_THAT(Error(stores, {}, absl::StatusCode::kUnauthenticated), HasSubstr("no TLS with it"));
  // In the clear.
  EXPECT_THAT(Error({}, {}, absl::StatusCode::kUnavailable),
              AllOf(HasSubstr(etcd_->endpoint()), HasSubstr("TLS")));
  EXPECT_THAT(
      Error({}, {.cert = caller_.cert, .key = caller_.key}, absl::StatusCode::kInvalidArgument),
      HasSubstr("--etcd-ca"));
  EXPECT_THAT(
      Error({}, {.ca = etcd_ca_.cert, .cert = caller_.cert}, absl::StatusCode::kInvalidArgument),
      HasSubstr("--etcd-key"));
  EXPECT_THAT(Error({}, {.server_name = "etcd"}, absl::StatusCode::kInvalidArgument),
              HasSubstr("--etcd-ca"));
  EXPECT_THAT(Error({}, {.user = "a"}, absl::StatusCode::kInvalidArgument),
              HasSubstr("--etcd-password-file"));
}

TEST_F(EtcdAttachTest, TheNameInEtcdsCertificateMayBeAnother) {
  StartEtcd("DNS:etcd.cluster");
  const std::vector<std::string> flags = {
      "--register-ca",  etcd_ca_.cert, "--register-cert",        caller_.cert,
      "--register-key", caller_.key,   "--register-server-name", "etcd.cluster"};
  StartStore({}, flags);
  EtcdSecurity named = Caller();
  named.server_name = "etcd.cluster";
  ExpectRows({}, named);
  EXPECT_THAT(Error({}, Caller(), absl::StatusCode::kUnauthenticated), HasSubstr("no TLS with it"));
}

TEST_F(EtcdAttachTest, OneAuthorityForBothIsGivenOnce) {
  stores_ca_ = etcd_ca_;
  store_ = MakeCertificate(etcd_ca_, scratch_ / "", "store", kLocal);
  StartEtcd(kLocal);
  StartStore(StoreTls(), {"--register-ca", etcd_ca_.cert, "--register-cert", caller_.cert,
                          "--register-key", caller_.key});
  ExpectRows({.tls_ca = etcd_ca_.cert, .tls_cert = caller_.cert, .tls_key = caller_.key}, {});
}

// An etcd with users, in plain text on this machine.
TEST_F(EtcdAttachTest, AUserAndHisPasswordAreEtcdsAlone) {
  etcd_ = std::make_unique<EtcdProcess>();
  etcd_->Ctl("user add root:rootword");
  etcd_->Ctl("role add readers");
  etcd_->Ctl("role grant-permission readers --prefix=true readwrite engram/");
  etcd_->Ctl("user add reader:readerword");
  etcd_->Ctl("user grant-role reader readers");
  etcd_->Ctl("user add nobody:readerword");
  etcd_->Ctl("auth enable");
  etcd_->SetCtlFlags("--user root:rootword");
  const std::string password = scratch_ / "password";
  WriteFile(password, "readerword\n");
  StartStore({}, {"--register-user", "reader", "--register-password-file", password});
  const EtcdSecurity reader = {.user = "reader", .password_file = password};
  ExpectRows({}, reader);
  EXPECT_THAT(Error({}, {}, absl::StatusCode::kUnauthenticated),
              HasSubstr("wants to know who asks"));
  EXPECT_THAT(
      Error({}, {.user = "nobody", .password_file = password}, absl::StatusCode::kPermissionDenied),
      HasSubstr("permission denied"));
  WriteFile(password, "wrong\n");
  EXPECT_THAT(Error({}, reader, absl::StatusCode::kUnauthenticated),
              AllOf(HasSubstr("refuses user reader"), Not(HasSubstr("wrong\n"))));
}

}  // namespace
}  // namespace engram::integration
