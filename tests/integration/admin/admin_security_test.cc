// Who may administer over TCP: certificates, tokens and both together, with real ones, against the
// real engramd.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/admin/grpc_admin.h"
#include "client/transport/grpc/grpc_credentials.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "tests/integration/certificates.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/secured_test.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AdminSecurityTest : public SecuredTest {
 protected:
  void SetUp() override {
    SecuredTest::SetUp();
    operator_ = MakeCertificate(authority_, scratch_ / "", "operator", "DNS:ops");
  }
  static std::string AdminAddress(EngramdProcess& engramd) {
    const auto line = engramd.WaitForLine("operators at ");
    EXPECT_TRUE(line) << engramd.Log();
    engramd.WaitUntilServing();
    return line ? line->substr(line->find("operators at ") + 13) : "";
  }
  static absl::Status List(const std::string& address, const SecurityOptions& security) {
    const auto admin = AdminClient::Create(address, security);
    return admin.ok() ? (*admin)->List().status() : admin.status();
  }
  // What gRPC's own services on the port answer to whom.
  static grpc::StatusCode Health(const std::string& address, const SecurityOptions& security) {
    const auto credentials = GrpcCredentials::Create(security, address);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    const auto stub =
        grpc::health::v1::Health::NewStub(grpc::CreateChannel(address, (*credentials)->channel()));
    grpc::ClientContext context;
    (*credentials)->Apply(&context);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::health::v1::HealthCheckResponse response;
    return stub->Check(&context, {}, &response).error_code();
  }
  SecurityOptions Operator() const { return With(Worker(), operator_); }

  CertificateFiles operator_;
};

TEST_F(AdminSecurityTest, OneIdentityAloneMayAdministerByItsCertificate) {
  EngramdProcess engramd(
      TlsFlags({"--admin-grpc-listen", "127.0.0.1:0", "--admin-identity", "ops"}));
  const std::string address = AdminAddress(engramd);
  EXPECT_TRUE(List(address, Operator()).ok()) << List(address, Operator());
  EXPECT_EQ(Health(address, Operator()), grpc::StatusCode::OK);
  // Whoever may look up rows may not administer, nor see who else is connected.
  const absl::Status worker = List(address, Worker());
  EXPECT_EQ(worker.code(), absl::StatusCode::kPermissionDenied) << worker;
  EXPECT_THAT(std::string(worker.message()),
              AllOf(HasSubstr("worker-a"), HasSubstr("--admin-identity")));
  EXPECT_EQ(Health(address, Worker()), grpc::StatusCode::PERMISSION_DENIED);
  const CertificateFiles other = MakeAuthority(scratch_ / "", "other");
  const CertificateFiles stranger = MakeCertificate(other, scratch_ / "", "stranger", "DNS:ops");
  const CertificateFiles expired =
      MakeCertificate(authority_, scratch_ / "", "expired", "DNS:ops", -1);
  EXPECT_EQ(List(address, With(Worker(), stranger)).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(List(address, With(Worker(), expired)).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(List(address, {.tls_ca = authority_.cert}).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(List(address, {}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(AdminSecurityTest, ThePortHasCertificatesOfItsOwn) {
  const CertificateFiles operators = MakeAuthority(scratch_ / "", "operators");
  const CertificateFiles own =
      MakeCertificate(operators, scratch_ / "", "own", "DNS:localhost,IP:127.0.0.1");
  const CertificateFiles ops = MakeCertificate(operators, scratch_ / "", "ops", "DNS:ops");
  EngramdProcess engramd(
      TlsFlags({"--admin-grpc-listen", "127.0.0.1:0", "--admin-identity", "ops", "--admin-tls-cert",
                own.cert, "--admin-tls-key", own.key, "--admin-tls-client-ca", operators.cert}));
  const std::string address = AdminAddress(engramd);
  const Outcome listed =
      RunShell(absl::StrCat("$ENGRAM admin list --admin ", address, " --tls-ca ", operators.cert,
                            " --tls-cert ", ops.cert, " --tls-key ", ops.key));
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  EXPECT_THAT(listed.out, HasSubstr("engramd is SERVING"));
  // The workers' authority is not the operators', on either side.
  EXPECT_EQ(List(address, Operator()).code(), absl::StatusCode::kUnauthenticated);
  SecurityOptions foreign = Operator();
  foreign.tls_ca = operators.cert;
  EXPECT_EQ(List(address, foreign).code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(AdminSecurityTest, ACertificateOfThePortsOwnNeedsNoTokenAndATokenLendsNoRights) {
  WriteFile(scratch_ / "tokens", absl::StrCat("ops ", kToken, "\nworker-a ", kOtherToken, "\n"));
  WriteFile(scratch_ / "ops", kToken);
  WriteFile(scratch_ / "worker", kOtherToken);
  EngramdProcess engramd(TlsFlags({"--token-file", scratch_ / "tokens", "--admin-grpc-listen",
                                   "127.0.0.1:0", "--admin-identity", "ops"}));
  const std::string address = AdminAddress(engramd);
  const auto list = [&](SecurityOptions security, const std::string& token) {
    security.token_file = scratch_ / token;
    return List(address, security);
  };
  EXPECT_TRUE(List(address, Operator()).ok()) << List(address, Operator());
  EXPECT_TRUE(list(Operator(), "ops").ok()) << list(Operator(), "ops");
  EXPECT_EQ(list(Operator(), "worker").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(list(Worker(), "ops").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(List(address, Worker()).code(), absl::StatusCode::kPermissionDenied);
}

// Who is refused is named as far as it is known, and by his address; each method asks.
TEST_F(AdminSecurityTest, TheLogSaysWhoWasRefused) {
  WriteFile(scratch_ / "tokens", absl::StrCat("ops ", kToken, "\nworker-b ", kOtherToken, "\n"));
  WriteFile(scratch_ / "worker", kOtherToken);
  WriteFile(scratch_ / "unknown", "0123456789abcdef-of-nobody");
  EngramdProcess engramd(
      ServerTlsFlags({"--token-file", scratch_ / "tokens", "--admin-grpc-listen", "127.0.0.1:0",
                      "--admin-identity", "ops", "--admin-listen", "127.0.0.1:0"}));
  const auto pages = engramd.WaitForLine("metrics and status at http://");
  ASSERT_TRUE(pages);
  const std::string address = AdminAddress(engramd);
  SecurityOptions security{.tls_ca = authority_.cert};
  EXPECT_EQ(List(address, security).code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(engramd.WaitForLine("did not admit list for ipv4:127.0.0.1:"));
  security.token_file = scratch_ / "unknown";
  const auto admin = AdminClient::Create(address, security);
  ASSERT_TRUE(admin.ok()) << admin.status();
  EXPECT_EQ((*admin)->Retire("x").status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(engramd.WaitForLine("did not admit retire for ipv4:127.0.0.1:"));
  security.token_file = scratch_ / "worker";
  const auto worker = AdminClient::Create(address, security);
  ASSERT_TRUE(worker.ok()) << worker.status();
  EXPECT_EQ((*worker)->Publish(scratch_ / "set", std::nullopt, nullptr).status().code(),
            absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(engramd.WaitForLine("did not admit publish for worker-b at ipv4:127.0.0.1:"));
  EXPECT_EQ((*worker)->Scrub(nullptr).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(engramd.WaitForLine("did not admit scrub for worker-b at ipv4:127.0.0.1:"));
  EXPECT_EQ(Health(address, security), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_TRUE(
      engramd.WaitForLine("did not admit a call of /grpc.health.v1.Health/Check for worker-b"));
  const std::string metrics = HttpGet(pages->substr(pages->find("http://") + 7), "/metrics");
  const auto refused = [&](const std::string& labels) {
    return MetricValue(metrics, absl::StrCat("engram_server_admin_refusals_total{", labels, "}"));
  };
  // One for each call: a client asks nothing beside it.
  EXPECT_EQ(refused("method=\"list\",code=\"UNAUTHENTICATED\""), 1);
  EXPECT_EQ(refused("method=\"list\",code=\"PERMISSION_DENIED\""), 0);
  EXPECT_EQ(refused("method=\"retire\",code=\"UNAUTHENTICATED\""), 1);
  EXPECT_EQ(refused("method=\"scrub\",code=\"PERMISSION_DENIED\""), 1);
  EXPECT_EQ(refused("method=\"publish\",code=\"PERMISSION_DENIED\""), 1);
  EXPECT_EQ(refused("method=\"other\",code=\"PERMISSION_DENIED\""), 1);
  EXPECT_EQ(refused("method=\"publish\",code=\"UNAUTHENTICATED\""), 0);
}

TEST_F(AdminSecurityTest, ATokenSaysWhoAdministers) {
  WriteFile(scratch_ / "tokens", absl::StrCat("ops ", kToken, "\nworker-b ", kOtherToken, "\n"));
  WriteFile(scratch_ / "ops", kToken);
  WriteFile(scratch_ / "worker", kOtherToken);
  EngramdProcess engramd(ServerTlsFlags({"--token-file", scratch_ / "tokens", "--admin-grpc-listen",
                                         "127.0.0.1:0", "--admin-identity", "ops"}));
  const std::string address = AdminAddress(engramd);
  SecurityOptions security{.tls_ca = authority_.cert};
  EXPECT_EQ(List(address, security).code(), absl::StatusCode::kUnauthenticated);
  security.token_file = scratch_ / "worker";
  EXPECT_EQ(List(address, security).code(), absl::StatusCode::kPermissionDenied);
  security.token_file = scratch_ / "ops";
  EXPECT_TRUE(List(address, security).ok()) << List(address, security);
}

}  // namespace
}  // namespace engram::integration
