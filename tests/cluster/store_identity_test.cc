// Stores that are known by names in their certificates, and not by their addresses: who is on the
// list is used, and who is not is left out, named and counted; with real certificates.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/certificates.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class StoreIdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 100, scratch_ / "set");
    authority_ = MakeAuthority(scratch_ / "", "authority");
  }
  // A store of a partition, at an IP that its certificate does not have. Returns its address.
  std::string AddStore(const std::string& partition, const std::string& names) {
    const CertificateFiles own =
        MakeCertificate(authority_, scratch_ / "", absl::StrCat("store", stores_.size()), names);
    stores_.push_back(std::make_unique<EngramdProcess>(std::vector<std::string>{
        "--table-set", scratch_ / "set", "--partition", partition, "--listen", "127.0.0.1:0",
        "--tls-cert", own.cert, "--tls-key", own.key}));
    addresses_.push_back(stores_.back()->WaitUntilServing());
    return addresses_.back();
  }
  absl::StatusOr<std::unique_ptr<Client>> Attach(const std::vector<std::string>& identities,
                                                 absl::Duration timeout = absl::Seconds(60)) const {
    return Client::Attach(absl::StrCat("cluster:", absl::StrJoin(addresses_, ",")),
                          {.timeout = timeout,
                           .security = {.tls_ca = authority_.cert, .tls_identities = identities}});
  }
  static void ExpectRows(Client& client) {
    const std::vector<int32_t> ids = RealTokenIds(50);
    const auto rows = LookUp(client, ids, RealClock().After(absl::Seconds(30)));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows(client.table_set(), client.addresser(), ids));
  }

  ScratchDirectory scratch_;
  CertificateFiles authority_;
  std::vector<std::unique_ptr<EngramdProcess>> stores_;
  std::vector<std::string> addresses_;
};

TEST_F(StoreIdentityTest, WhoIsOnTheListIsUsedWhateverItsAddress) {
  AddStore("0/2", "DNS:store-a.engram,DNS:other");
  AddStore("1/2", "URI:spiffe://prod/engram/two");
  const auto client = Attach({"store-a.engram", "URI:spiffe://prod/engram/*"});
  ASSERT_TRUE(client.ok()) << client.status();
  ExpectRows(**client);
  EXPECT_EQ((*client)->metrics().routing->strangers, 0u);
  // Without a list the address is held against the certificate.
  const absl::Status by_address = Attach({}).status();
  EXPECT_EQ(by_address.code(), absl::StatusCode::kUnauthenticated) << by_address;
  EXPECT_THAT(std::string(by_address.message()), HasSubstr("--tls-identity"));
}

TEST_F(StoreIdentityTest, WhoIsNotOnTheListIsLeftOutAndCounted) {
  AddStore("0/2", "DNS:store");
  AddStore("1/2", "DNS:store");
  const std::string stranger = AddStore("1/2", "DNS:stranger,URI:spiffe://prod/engramd");
  const auto client = Attach({"DNS:store", "URI:spiffe://prod/engram/*"});
  ASSERT_TRUE(client.ok()) << client.status();
  for (int i = 0; i < 20; ++i) ExpectRows(**client);
  while ((*client)->metrics().routing->strangers == 0) ExpectRows(**client);
  EXPECT_EQ((*client)->metrics().routing->failed, 0u);
}

TEST_F(StoreIdentityTest, AnAttachThatMissesOneNamesIt) {
  AddStore("0/2", "DNS:store");
  const std::string stranger = AddStore("1/2", "DNS:stranger");
  const absl::Status some = Attach({"store"}, absl::Seconds(3)).status();
  EXPECT_EQ(some.code(), absl::StatusCode::kUnavailable) << some;
  EXPECT_THAT(std::string(some.message()),
              AllOf(HasSubstr(stranger), HasSubstr("DNS:stranger"), HasSubstr("--tls-identity"),
                    HasSubstr("ready replica of rows")));
  // Where it is so of all no time mends it.
  const absl::Status all = Attach({"URI:spiffe://prod/engram/*"}).status();
  EXPECT_EQ(all.code(), absl::StatusCode::kUnauthenticated) << all;
  EXPECT_THAT(std::string(all.message()),
              AllOf(HasSubstr("DNS:store"), HasSubstr("URI:spiffe://prod/engram/*")));
}

TEST_F(StoreIdentityTest, OneStoreByItselfIsKnownInTheSameWay) {
  const std::string target = absl::StrCat("grpc:", AddStore("0/1", "DNS:store"));
  const SecurityOptions named = {.tls_ca = authority_.cert, .tls_identities = {"store"}};
  const auto client = Client::Attach(target, {.security = named});
  ASSERT_TRUE(client.ok()) << client.status();
  ExpectRows(**client);
  SecurityOptions other = named;
  other.tls_identities = {"another"};
  EXPECT_EQ(Client::Attach(target, {.security = other}).status().code(),
            absl::StatusCode::kUnauthenticated);
  // What would take nobody's certificate, or no list, is refused.
  const auto error = [](const std::string& place, const SecurityOptions& security) {
    const absl::Status status = Client::Attach(place, {.security = security}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(error(target, {.tls_identities = {"store"}}), HasSubstr("--tls-ca"));
  EXPECT_THAT(error("cluster:unix:/nowhere", named), HasSubstr("shows no certificate"));
  other.tls_identities = {"store*"};
  EXPECT_THAT(error(target, other), HasSubstr("store*"));
}

}  // namespace
}  // namespace engram::integration
