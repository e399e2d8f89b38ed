// TLS files that are wrong while they are used, as a rotation that goes astray leaves them: engramd
// and clients go on with what they had, say what is wrong, and take the next good ones.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/certificates.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr char kNames[] = "DNS:localhost,IP:127.0.0.1";
constexpr char kRefused[] = "engram_server_tls_files_refused";

constexpr char kKept[] = "; new connections use what was read of";

// What a rotation may leave in the place of files that were good.
struct Wrong {
  std::string name;
  // A shell line: $CERT, $KEY and $CA are the files; $NEXT_CERT and $NEXT_KEY another pair.
  std::string line;
  std::string says;
};

class RotationTest : public ::testing::TestWithParam<Wrong> {
 protected:
  void SetUp() override {
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "set");
    authority_ = MakeAuthority(scratch_ / "", "authority");
    server_ = MakeCertificate(authority_, scratch_ / "", "server", kNames);
    worker_ = MakeCertificate(authority_, scratch_ / "", "worker", "DNS:worker-a");
    for (const char* next : {"next", "last"}) std::filesystem::create_directory(scratch_ / next);
    next_ = MakeCertificate(authority_, scratch_ / "next", "next", kNames);
    // Each end has an authority's file of its own to be spoiled.
    for (const char* copy : {"server_ca", "worker_ca"}) {
      std::filesystem::copy_file(authority_.cert, scratch_ / copy);
    }
  }
  std::vector<std::string> Flags() const {
    return {"--table-set",    scratch_ / "set", "--listen",        "127.0.0.1:0",
            "--tls-cert",     server_.cert,     "--tls-key",       server_.key,
            "--admin-listen", "127.0.0.1:0",    "--tls-client-ca", scratch_ / "server_ca"};
  }
  SecurityOptions Worker() const {
    return {.tls_ca = scratch_ / "worker_ca", .tls_cert = worker_.cert, .tls_key = worker_.key};
  }
  void Spoil(const CertificateFiles& files, const std::string& ca, const std::string& line) const {
    const Outcome outcome = RunShell(
        absl::StrCat("CERT=", files.cert, " KEY=", files.key, " CA=", ca, " NEXT_CERT=", next_.cert,
                     " NEXT_KEY=", next_.key, " OTHER_KEY=", authority_.key, "; ", line));
    EXPECT_EQ(outcome.exit_code, 0) << line << "\n" << outcome.err;
  }
  // Puts a pair in place as who rotates does, moved, the key first.
  void PutInPlace(const CertificateFiles& files, const std::string& names) const {
    const CertificateFiles good = MakeCertificate(authority_, scratch_ / "last", "last", names);
    std::filesystem::rename(good.key, files.key);
    std::filesystem::rename(good.cert, files.cert);
  }
  // The serial number of the certificate that a new connection gets.
  std::string SerialAt(const std::string& address) const {
    return RunShell(absl::StrCat("openssl s_client -connect ", address, " -cert ", worker_.cert,
                                 " -key ", worker_.key,
                                 " </dev/null 2>/dev/null | openssl x509 -noout -serial"))
        .out;
  }
  static std::string SerialIn(const std::string& cert) {
    return RunShell(absl::StrCat("openssl x509 -noout -serial -in ", cert)).out;
  }
  // Waits until `done`; a test failure when that takes a minute.
  static void WaitUntil(const std::string& what, const std::function<bool()>& done) {
    const MonotonicTime deadline = RealClock().Now() + absl::Minutes(1);
    while (!done()) {
      if (RealClock().Now() > deadline) FAIL() << "waited in vain until " << what;
      absl::SleepFor(absl::Milliseconds(50));
    }
  }
  static absl::Status LookUpAnew(const std::string& address, const SecurityOptions& security) {
    const auto client =
        Client::Attach("grpc:" + address, {.timeout = absl::Seconds(20), .security = security});
    if (!client.ok()) return client.status();
    return LookUp(**client, RealTokenIds(20), RealClock().Now() + absl::Seconds(20)).status();
  }

  ScratchDirectory scratch_;
  CertificateFiles authority_, server_, worker_, next_;
};

class EngramdRotationTest : public RotationTest {};
class ClientRotationTest : public RotationTest {};

TEST_P(EngramdRotationTest, EngramdKeepsWhatItHadAndTakesTheNextGoodOnes) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  const auto page_line = engramd.WaitForLine("status at http://");
  ASSERT_TRUE(page_line);
  const std::string pages = page_line->substr(page_line->find("http://") + 7);
  const std::string before = SerialAt(address);
  ASSERT_THAT(before, HasSubstr("serial="));
  const std::string expiry = "engram_server_tls_certificate_expiry_seconds";
  const double expires = MetricValue(HttpGet(pages, "/metrics"), expiry);
  EXPECT_EQ(MetricValue(HttpGet(pages, "/metrics"), kRefused), 0);
  Spoil(server_, scratch_ / "server_ca", GetParam().line);
  WaitUntil("it says so", [&] { return absl::StrContains(engramd.Log(), GetParam().says); });
  EXPECT_THAT(engramd.Log(), HasSubstr(kKept));
  EXPECT_EQ(MetricValue(HttpGet(pages, "/metrics"), kRefused), 1);
  EXPECT_EQ(MetricValue(HttpGet(pages, "/metrics"), expiry), expires);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(LookUpAnew(address, Worker()), absl::OkStatus());
    EXPECT_EQ(SerialAt(address), before);
  }
  std::filesystem::copy_file(authority_.cert, scratch_ / "server_ca",
                             std::filesystem::copy_options::overwrite_existing);
  PutInPlace(server_, kNames);
  const std::string next = SerialIn(server_.cert);
  WaitUntil("the next certificate is used", [&] { return SerialAt(address) == next; });
  WaitUntil("nothing is refused",
            [&] { return MetricValue(HttpGet(pages, "/metrics"), kRefused) == 0; });
  EXPECT_EQ(LookUpAnew(address, Worker()), absl::OkStatus());
  EXPECT_TRUE(engramd.IsRunning());
  // Once, although it looked again and again.
  EXPECT_EQ(std::vector<std::string>(absl::StrSplit(engramd.Log(), GetParam().says)).size(), 2);
}

TEST_P(ClientRotationTest, AClientKeepsWhatItHadAndTakesTheNextGoodOnes) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  const auto credentials = GrpcCredentials::Create(Worker(), address);
  ASSERT_TRUE(credentials.ok()) << credentials.status();
  const auto client =
      Client::Attach("grpc:" + address, {.timeout = absl::Seconds(20), .security = Worker()});
  ASSERT_TRUE(client.ok()) << client.status();
  Spoil(worker_, scratch_ / "worker_ca", GetParam().line);
  WaitUntil("it is refused", [&] { return !(*credentials)->Refusal().ok(); });
  EXPECT_THAT(std::string((*credentials)->Refusal().message()), HasSubstr(GetParam().says));
  // New connections of the credentials that are there.
  const auto connects = [&] {
    grpc::ChannelArguments own_connection;
    own_connection.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(address, (*credentials)->channel(), own_connection)
        ->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20));
  };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(connects());
  std::filesystem::copy_file(authority_.cert, scratch_ / "worker_ca",
                             std::filesystem::copy_options::overwrite_existing);
  PutInPlace(worker_, "DNS:worker-a");
  WaitUntil("nothing is refused", [&] { return (*credentials)->Refusal().ok(); });
  EXPECT_TRUE(connects());
  EXPECT_EQ(LookUp(**client, RealTokenIds(20), RealClock().Now() + absl::Seconds(20)).status(),
            absl::OkStatus());
  EXPECT_EQ(LookUpAnew(address, Worker()), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(
    Wrong, EngramdRotationTest,
    ::testing::Values(
        Wrong{"CertificateIsEmpty", ": >$CERT", "server.crt holds no PEM certificate"},
        Wrong{"KeyIsEmpty", ": >$KEY", ".key holds no PEM private key"},
        Wrong{"CertificateIsCutOff", "head -c 200 $CERT >$CERT.cut; cat $CERT.cut >$CERT",
              "that is not whole"},
        Wrong{"ChainIsCutOff", "head -c 200 $CERT >$CERT.cut; cat $CERT.cut >>$CERT",
              "(number 2) that is not whole"},
        Wrong{"KeyIsCutOff", "head -c 100 $KEY >$KEY.cut; cat $KEY.cut >$KEY",
              ".key holds no PEM private key"},
        Wrong{"KeyOfAnother", "cat $OTHER_KEY >$KEY", ".key is not the key of the certificate in"},
        Wrong{"CertificateAlone", "mv $NEXT_CERT $CERT", "is not the key of the certificate in"},
        Wrong{"CertificateIsGarbage", "head -c 2000 /dev/urandom >$CERT",
              ".crt holds no PEM certificate"},
        Wrong{"KeyIsGarbage", "head -c 2000 /dev/urandom >$KEY", ".key holds no PEM private key"},
        Wrong{"CertificateIsZeros", "head -c 2000 /dev/zero >$CERT",
              ".crt holds no PEM certificate"},
        Wrong{"PairTheOtherWayRound", "cat $KEY >$KEY.was; cat $CERT >$KEY; cat $KEY.was >$CERT",
              ".crt holds no PEM certificate"},
        Wrong{"KeyWithAPassphrase",
              "openssl pkey -in $KEY -aes128 -passout pass:secret -out $KEY.locked; "
              "mv $KEY.locked $KEY",
              ".key holds a key with a passphrase"},
        Wrong{"OldFormKeyWithAPassphrase",
              "openssl ec -in $KEY -aes128 -passout pass:secret -out $KEY.locked; "
              "mv $KEY.locked $KEY",
              ".key holds a key with a passphrase"},
        Wrong{"HasExpired",
              "openssl req -new -key $KEY -subj /CN=old | "
              "openssl x509 -req -signkey $KEY -days -1 -out $CERT.old; "
              "mv $CERT.old $CERT",
              "has expired"},
        Wrong{"KeyTooShort",
              "openssl req -x509 -newkey rsa:1024 -nodes -subj /CN=short -keyout $KEY -out $CERT",
              "OpenSSL does not take (ee key too small)"},
        Wrong{"NotForServers",
              "openssl req -x509 -new -key $KEY -subj /CN=client -addext "
              "extendedKeyUsage=clientAuth -out $CERT",
              ".crt holds a certificate that is not for servers"},
        Wrong{"CertificateIsGone", "rm $CERT", ".crt: No such file"},
        Wrong{"KeyIsGone", "rm $KEY", ".key: No such file"},
        Wrong{"CertificateIsAPipe", "rm $CERT; mkfifo $CERT", ".crt is not a regular file"},
        Wrong{"AuthoritiesAreEmpty", ": >$CA", "_ca holds no PEM certificate"},
        Wrong{"AuthoritiesAreGarbage", "head -c 2000 /dev/urandom >$CA",
              "_ca holds no PEM certificate"},
        Wrong{"AuthoritiesAreCutOff", "head -c 200 $CA >$CA.cut; cat $CA.cut >>$CA",
              "_ca holds a certificate (number 2) that is not whole"},
        Wrong{"AuthoritiesAreGone", "rm $CA", "_ca: No such file"}),
    [](const auto& info) { return info.param.name; });

// The same watch is behind it: a few of them.
INSTANTIATE_TEST_SUITE_P(
    Wrong, ClientRotationTest,
    ::testing::Values(
        Wrong{"CertificateIsEmpty", ": >$CERT", "worker.crt holds no PEM certificate"},
        Wrong{"KeyOfAnother", "cat $OTHER_KEY >$KEY", ".key is not the key of the certificate in"},
        Wrong{"KeyIsGone", "rm $KEY", "worker.key: No such file"},
        Wrong{"AuthoritiesAreEmpty", ": >$CA", "worker_ca holds no PEM certificate"},
        Wrong{"AuthoritiesAreGone", "rm $CA", "worker_ca: No such file"}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace engram::integration
