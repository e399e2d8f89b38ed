// Who may have what: TLS with client certificates, bearer tokens, allow lists, users of Unix
// sockets; with real certificates, against the real engramd. What each is refused with, and that
// new certificates and tokens take over while lookups run.
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/certificates.h"
#include "tests/integration/programs.h"
#include "tests/integration/secured_test.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

class SecurityTest : public SecuredTest {
 protected:
  static absl::StatusOr<std::unique_ptr<Client>> Attach(const std::string& address,
                                                        const SecurityOptions& security,
                                                        const std::string& mode = "") {
    return Client::Attach("grpc:" + address,
                          {.timeout = absl::Seconds(20), .mode = mode, .security = security});
  }
  static std::string Error(const std::string& address, const SecurityOptions& security,
                           absl::StatusCode code) {
    const absl::Status status = Attach(address, security).status();
    EXPECT_EQ(status.code(), code) << status;
    return std::string(status.message());
  }
  static void ExpectRows(Client& client) {
    const std::vector<int32_t> token_ids = RealTokenIds(50);
    const auto rows = LookUp(client, token_ids, RealClock().Now() + absl::Seconds(20));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(*rows, ExpectedRows(client.table_set(), client.addresser(), token_ids));
  }
};

TEST_F(SecurityTest, RowsComeByTlsFromStreamsAndUnaryCalls) {
  EngramdProcess engramd(TlsFlags());
  const std::string address = engramd.WaitUntilServing();
  for (const char* mode : {"stream", "unary"}) {
    const auto client = Attach(address, Worker(), mode);
    ASSERT_TRUE(client.ok()) << client.status();
    ExpectRows(**client);
  }
}

TEST_F(SecurityTest, AWrongCertificateIsUnauthenticatedWhicheverSideFindsIt) {
  EngramdProcess engramd(TlsFlags());
  const std::string address = engramd.WaitUntilServing();
  const CertificateFiles other = MakeAuthority(scratch_ / "", "other");
  SecurityOptions wrong_authority = Worker();
  wrong_authority.tls_ca = other.cert;
  EXPECT_THAT(Error(address, wrong_authority, absl::StatusCode::kUnauthenticated),
              HasSubstr("--tls-client-ca"));
  const CertificateFiles stranger =
      MakeCertificate(other, scratch_ / "", "stranger", "DNS:worker-a");
  EXPECT_THAT(Error(address, With(Worker(), stranger), absl::StatusCode::kUnauthenticated),
              AllOf(HasSubstr("--tls-client-ca"), HasSubstr("clientAuth")));
  EXPECT_THAT(Error(address, {.tls_ca = authority_.cert}, absl::StatusCode::kUnauthenticated),
              AllOf(HasSubstr("--tls-client-ca"), HasSubstr("may want a client's certificate")));
  const CertificateFiles expired =
      MakeCertificate(authority_, scratch_ / "", "expired", "DNS:worker-a", -1);
  EXPECT_THAT(Error(address, With(Worker(), expired), absl::StatusCode::kUnauthenticated),
              HasSubstr(expired.cert + " holds a certificate that has expired"));
  SecurityOptions wrong_host = Worker();
  wrong_host.tls_server_name = "elsewhere";
  EXPECT_THAT(Error(address, wrong_host, absl::StatusCode::kUnauthenticated),
              HasSubstr("by --tls-server-name"));
}

TEST_F(SecurityTest, OneSideWithoutTlsIsTold) {
  EngramdProcess tls(TlsFlags());
  const absl::Status plain =
      Client::Attach("grpc:" + tls.WaitUntilServing(), {.timeout = absl::Milliseconds(500)})
          .status();
  EXPECT_EQ(plain.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(plain.message()), HasSubstr("--tls-ca FILE"));
  EngramdProcess open(Flags({}));
  EXPECT_THAT(Error(open.WaitUntilServing(), Worker(), absl::StatusCode::kUnauthenticated),
              HasSubstr("speaks no TLS"));
}

TEST_F(SecurityTest, OptionsThatCannotBeUsedAreNamed) {
  const auto error = [&](const SecurityOptions& options, const std::string& address) {
    return Error(address, options, absl::StatusCode::kInvalidArgument);
  };
  const std::string local = "127.0.0.1:1";
  EXPECT_THAT(error({.tls_ca = authority_.cert, .tls_cert = worker_.cert}, local),
              HasSubstr("--tls-cert and --tls-key"));
  EXPECT_THAT(error({.tls_cert = worker_.cert, .tls_key = worker_.key}, local),
              HasSubstr("--tls-ca FILE"));
  EXPECT_THAT(error({.tls_ca = worker_.key}, local), HasSubstr("holds no PEM certificate"));
  EXPECT_THAT(error(With(Worker(), {worker_.cert, server_.key}), local),
              HasSubstr("is not the key of the certificate"));
  EXPECT_THAT(error(With(Worker(), {worker_.cert, worker_.cert}), local),
              HasSubstr("no PEM private key"));
  WriteFile(scratch_ / "token", kToken);
  EXPECT_THAT(error({.token_file = scratch_ / "token"}, "10.0.0.1:1"), HasSubstr("in the clear"));
  WriteFile(scratch_ / "two", "a b");
  EXPECT_THAT(error({.token_file = scratch_ / "two"}, local), HasSubstr("more than a token"));
  WriteFile(scratch_ / "none", "\n");
  EXPECT_THAT(error({.token_file = scratch_ / "none"}, local), HasSubstr("holds no token"));
  EXPECT_THAT(error({.traceparent = "a\nb"}, local), HasSubstr("traceparent"));
}

TEST_F(SecurityTest, FilesThatCannotBeServedWithStopTheStart) {
  const auto log = [&](std::vector<std::string> more) {
    EngramdProcess engramd(Flags(std::move(more)));
    EXPECT_FALSE(engramd.WaitForLine("listening on"));  // it has said all then
    EXPECT_NE(engramd.WaitForEnd(), 0);
    return engramd.Log();
  };
  EXPECT_THAT(log({"--tls-cert", server_.cert, "--tls-key", worker_.key}),
              HasSubstr("is not the key of the certificate in " + server_.cert));
  const CertificateFiles expired =
      MakeCertificate(authority_, scratch_ / "", "expired", "DNS:localhost", -1);
  EXPECT_THAT(log({"--tls-cert", expired.cert, "--tls-key", expired.key}), HasSubstr("expired"));
  EXPECT_THAT(log({"--tls-cert", scratch_ / "no", "--tls-key", expired.key}),
              HasSubstr(scratch_ / "no"));
  WriteFile(scratch_ / "tokens", "# ours\nworker-a short\n");
  const std::string short_token = log({"--token-file", scratch_ / "tokens"});
  EXPECT_THAT(short_token, AllOf(HasSubstr((scratch_ / "tokens") + ":2:"), HasSubstr("worker-a"),
                                 Not(HasSubstr("short,"))));
  WriteFile(scratch_ / "twice", absl::StrCat("a ", kToken, "\nb ", kToken, "\n"));
  EXPECT_THAT(log({"--token-file", scratch_ / "twice"}), HasSubstr(":2:"));
}

TEST_F(SecurityTest, AnAllowListSaysWhichIdentityMayHaveWhichSet) {
  PackSmallSet("qwen4-exp", 500, scratch_ / "other");
  EngramdProcess engramd(TlsFlags({"--table-set", scratch_ / "other", "--allow",
                                   "worker-a=deepseek-v4.1-flash", "--allow", "admin=*", "--allow",
                                   absl::StrCat("unix:", geteuid(), "=deepseek-v4.1-flash"),
                                   "--allow", "unix:4711=qwen4-exp", "--listen",
                                   "unix:" + (scratch_ / "s"), "--shm-socket", scratch_ / "m"}));
  const std::string address = engramd.WaitUntilServing();
  const auto client = Client::Attach(
      "grpc:" + address,
      {.table_set = "deepseek-v4.1-flash", .timeout = absl::Seconds(20), .security = Worker()});
  ASSERT_TRUE(client.ok()) << client.status();
  ExpectRows(**client);
  const absl::Status other =
      Client::Attach("grpc:" + address, {.table_set = "qwen4-exp", .security = Worker()}).status();
  EXPECT_EQ(other.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(other.message()), HasSubstr("worker-a may not have table set qwen4-exp"));
  const CertificateFiles nobody =
      MakeCertificate(authority_, scratch_ / "", "nobody", "DNS:nobody");
  // A certificate that is good, of somebody who may have nothing; the id does not help.
  for (const std::string set : {"qwen4-exp", "nosuchset", (*client)->table_set().id.c_str()}) {
    const absl::Status status =
        Client::Attach("grpc:" + address, {.table_set = set, .security = With(Worker(), nobody)})
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << status;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("deepseek")));
  }
  const CertificateFiles admin = MakeCertificate(authority_, scratch_ / "", "boss", "DNS:admin");
  EXPECT_TRUE(Client::Attach("grpc:" + address,
                             {.table_set = "qwen4-exp", .security = With(Worker(), admin)})
                  .ok());
  // Each user of a Unix socket has an identity of his own.
  for (const std::string& target : {"grpc:unix:" + (scratch_ / "s"), "shm:" + (scratch_ / "m")}) {
    const absl::Status status = Client::Attach(target, {.table_set = "qwen4-exp"}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << target << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(absl::StrCat("unix:", geteuid(), " may not have table set qwen4-exp")));
    const auto own = Client::Attach(target, {.table_set = "deepseek-v4.1-flash"});
    ASSERT_TRUE(own.ok()) << target << own.status();
    ExpectRows(**own);
  }
}

TEST_F(SecurityTest, TokensAreAskedForByEveryCallAndSayWho) {
  WriteFile(scratch_ / "tokens", absl::StrCat("# ours\nworker-a ", kToken, "\n"));
  WriteFile(scratch_ / "mine", absl::StrCat(kToken, "\n"));
  WriteFile(scratch_ / "wrong", kOtherToken);
  EngramdProcess engramd(
      Flags({"--token-file", scratch_ / "tokens", "--allow", "worker-a=deepseek-v4.1-flash"}));
  const std::string address = engramd.WaitUntilServing();
  EXPECT_THAT(Error(address, {}, absl::StatusCode::kUnauthenticated), HasSubstr("bearer token"));
  EXPECT_THAT(
      Error(address, {.token_file = scratch_ / "wrong"}, absl::StatusCode::kUnauthenticated),
      HasSubstr("not one that engramd knows"));
  for (const char* mode : {"stream", "unary"}) {
    const auto client = Attach(address, {.token_file = scratch_ / "mine"}, mode);
    ASSERT_TRUE(client.ok()) << client.status();
    ExpectRows(**client);
  }
  EXPECT_THAT(engramd.Log(), Not(HasSubstr(kToken)));
}

// What a client that does not attach, and knows the set's id, may do.
TEST_F(SecurityTest, EveryMethodAsksForItselfWhoCalls) {
  WriteFile(scratch_ / "tokens",
            absl::StrCat("worker-a ", kToken, "\nworker-b ", kOtherToken, "\n"));
  WriteFile(scratch_ / "mine", kToken);
  EngramdProcess engramd(Flags({"--token-file", scratch_ / "tokens", "--allow", "worker-a=*"}));
  const std::string address = engramd.WaitUntilServing();
  const auto client = Attach(address, {.token_file = scratch_ / "mine"});
  ASSERT_TRUE(client.ok()) << client.status();
  v1::LookupRequest request;
  request.set_table_set_id((*client)->table_set().id);
  request.mutable_tokens()->add_token_ids(1);
  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  const auto ask = [&](const char* token) {
    const auto prepare = [token](grpc::ClientContext& context) {
      if (*token != 0) context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
    };
    grpc::ClientContext unary, stream, attach;
    for (grpc::ClientContext* context : {&unary, &stream, &attach}) prepare(*context);
    std::vector<int> codes;
    v1::LookupResponse response;
    codes.push_back(stub->Lookup(&unary, request, &response).error_code());
    const auto calls = stub->LookupStream(&stream);
    calls->Write(request);
    calls->WritesDone();
    codes.push_back(calls->Read(&response) ? static_cast<int>(response.code()) : -1);
    while (calls->Read(&response)) continue;
    const int end = calls->Finish().error_code();
    if (codes.back() == -1) codes.back() = end;
    v1::AttachResponse attached;
    codes.push_back(stub->Attach(&attach, {}, &attached).error_code());
    return codes;
  };
  EXPECT_THAT(ask(kToken), Each(grpc::StatusCode::OK));
  EXPECT_THAT(ask(kOtherToken), Each(grpc::StatusCode::PERMISSION_DENIED));
  EXPECT_THAT(ask(""), Each(grpc::StatusCode::UNAUTHENTICATED));
  grpc::ClientContext context;
  context.AddMetadata("authorization", absl::StrCat("Bearer ", kOtherToken));
  v1::DescribeResponse described;
  ASSERT_TRUE(stub->Describe(&context, {}, &described).ok());
  EXPECT_EQ(described.table_sets_size(), 0);
}

// What was open before a token was taken back ends with it.
TEST_F(SecurityTest, NewTokensTakeOverAndOldOnesEndWhileStreamsAreOpen) {
  WriteFile(scratch_ / "tokens", absl::StrCat("worker-a ", kToken, "\n"));
  WriteFile(scratch_ / "mine", kToken);
  EngramdProcess engramd(Flags({"--token-file", scratch_ / "tokens"}));
  const std::string address = engramd.WaitUntilServing();
  const auto client = Attach(address, {.token_file = scratch_ / "mine"});
  ASSERT_TRUE(client.ok()) << client.status();
  ExpectRows(**client);
  // A file that is not whole changes nothing.
  WriteFile(scratch_ / "tokens", "worker-a\n");
  absl::SleepFor(absl::Seconds(1.5));
  ExpectRows(**client);
  WriteFile(scratch_ / "tokens", absl::StrCat("worker-a ", kOtherToken, "\n"));
  const std::vector<int32_t> token_ids = RealTokenIds(20);
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    status = LookUp(**client, token_ids, RealClock().Now() + absl::Seconds(5)).status();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << status;
  WriteFile(scratch_ / "mine", kOtherToken);
  const auto again = Attach(address, {.token_file = scratch_ / "mine"});
  ASSERT_TRUE(again.ok()) << again.status();
  ExpectRows(**again);
}

// The serial number of the certificate that a new connection gets.
std::string SerialOf(const std::string& address, const CertificateFiles& own) {
  return RunShell(absl::StrCat("openssl s_client -connect ", address, " -cert ", own.cert, " -key ",
                               own.key, " </dev/null 2>/dev/null | openssl x509 -noout -serial"))
      .out;
}

TEST_F(SecurityTest, NewCertificatesTakeOverUnderLoadAndNothingIsDropped) {
  EngramdProcess engramd(TlsFlags());
  const std::string address = engramd.WaitUntilServing();
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> lookups{0}, attached{0};
  std::vector<std::thread> workers;
  // One that stays connected, one that connects again and again.
  for (const bool stays : {true, false}) {
    workers.emplace_back([&, stays] {
      auto client = Attach(address, Worker());
      const std::vector<int32_t> token_ids = RealTokenIds(20);
      while (!stop.load()) {
        if (!stays) client = Attach(address, Worker());
        if (!client.ok()) {
          ADD_FAILURE() << client.status();
          return;
        }
        const auto rows = LookUp(**client, token_ids, RealClock().Now() + absl::Seconds(10));
        if (!rows.ok()) {
          ADD_FAILURE() << rows.status();
          return;
        }
        ++(stays ? lookups : attached);
      }
    });
  }
  const std::string before = SerialOf(address, worker_);
  EXPECT_THAT(before, HasSubstr("serial="));
  // Moved into place one after the other, as who rotates them does.
  std::filesystem::create_directory(scratch_ / "next");
  const CertificateFiles next =
      MakeCertificate(authority_, scratch_ / "next", "server", "DNS:localhost,IP:127.0.0.1");
  std::filesystem::rename(next.key, server_.key);
  std::filesystem::rename(next.cert, server_.cert);
  std::string now = before;
  for (int i = 0; i < 100 && now == before; ++i) {
    absl::SleepFor(absl::Milliseconds(100));
    now = SerialOf(address, worker_);
  }
  EXPECT_THAT(now, AllOf(HasSubstr("serial="), Not(before)));
  const uint64_t lookups_then = lookups.load();
  const uint64_t attached_then = attached.load();
  absl::SleepFor(absl::Milliseconds(500));
  stop.store(true);
  for (std::thread& worker : workers) worker.join();
  EXPECT_GT(lookups.load(), lookups_then);
  EXPECT_GT(attached.load(), attached_then);
}

TEST_F(SecurityTest, OnlyListedUsersMayConnectToAUnixSocket) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: it connects as another user";
  // Where another user may get at the socket and the tokens.
  std::filesystem::permissions(scratch_ / "", std::filesystem::perms::all);
  const std::string socket = scratch_ / "s";
  EngramdProcess engramd(
      {"--table-set", scratch_ / "set", "--listen", "unix:" + socket, "--unix-allow-uid", "4711"});
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  std::filesystem::permissions(socket, std::filesystem::perms::all);
  const auto look_up_as = [&](int uid) {
    return RunShell(
        absl::StrCat("cp $ENGRAM ", scratch_ / "engram", "; head -c 400 ", kTokenStream, " >",
                     scratch_ / "ids", "; setpriv --reuid=", uid, " --clear-groups ",
                     scratch_ / "engram", " lookup --target grpc:unix:", socket,
                     " --attach-timeout 1s --token-ids ", scratch_ / "ids", " --output -"));
  };
  EXPECT_EQ(look_up_as(4711).exit_code, 0);
  EXPECT_NE(look_up_as(4712).exit_code, 0);
  EXPECT_TRUE(
      engramd.WaitForLine("uid 4712 may not connect to this engramd: start engramd with "
                          "--unix-allow-uid 4712"));
  const auto own = Attach("unix:" + socket, {});
  ASSERT_TRUE(own.ok()) << own.status();
  ExpectRows(**own);
}

// The token of one in the hands of another: neither's rights are lent.
TEST_F(SecurityTest, ATokenBesideACertificateLendsNoRights) {
  WriteFile(scratch_ / "tokens", absl::StrCat("worker-a ", kToken, "\nadmin ", kOtherToken, "\n"));
  WriteFile(scratch_ / "mine", kToken);
  WriteFile(scratch_ / "admins", kOtherToken);
  PackSmallSet("qwen4-exp", 500, scratch_ / "other");
  EngramdProcess engramd(
      TlsFlags({"--table-set", scratch_ / "other", "--token-file", scratch_ / "tokens", "--allow",
                "worker-a=deepseek-v4.1-flash", "--allow", "admin=*"}));
  const std::string address = engramd.WaitUntilServing();
  const auto attach = [&](const std::string& token, const std::string& set) {
    SecurityOptions security = Worker();
    security.token_file = scratch_ / token;
    return Client::Attach("grpc:" + address, {.table_set = set, .security = security}).status();
  };
  EXPECT_TRUE(attach("mine", "deepseek-v4.1-flash").ok());
  EXPECT_TRUE(attach("admins", "deepseek-v4.1-flash").ok());
  const absl::Status lent = attach("admins", "qwen4-exp");
  EXPECT_EQ(lent.code(), absl::StatusCode::kPermissionDenied) << lent;
  EXPECT_THAT(std::string(lent.message()),
              HasSubstr("worker-a, as the certificate beside the token of admin says,"));
}

TEST_F(SecurityTest, TheCommandLineTakesCertificatesAndTokens) {
  WriteFile(scratch_ / "tokens", absl::StrCat("worker-a ", kToken, "\n"));
  WriteFile(scratch_ / "mine", kToken);
  EngramdProcess engramd(TlsFlags({"--token-file", scratch_ / "tokens"}));
  const std::string line =
      absl::StrCat("$ENGRAM lookup --target grpc:", engramd.WaitUntilServing(), " --token-ids ",
                   kTokenStream, " --output /dev/null --tls-ca ", authority_.cert, " --tls-cert ",
                   worker_.cert, " --tls-key ", worker_.key);
  EXPECT_EQ(RunShell(absl::StrCat(line, " --token-file ", scratch_ / "mine")).exit_code, 0);
  const Outcome without = RunShell(line);
  EXPECT_EQ(without.exit_code, 1);
  EXPECT_THAT(without.err, HasSubstr("--token-file"));
  const Outcome checked = RunShell(absl::StrCat(
      "$(dirname $ENGRAM)/../../server/engramd --table-set /x --listen 127.0.0.1:0 --check-config "
      "--tls-cert ",
      server_.cert, " --tls-key ", worker_.key));
  EXPECT_EQ(checked.exit_code, 2) << checked.err;
  EXPECT_THAT(checked.err, AllOf(HasSubstr("--tls-cert of --listen: "),
                                 HasSubstr("is not the key of the certificate")));
  EXPECT_THAT(checked.out, Not(HasSubstr("is not the key of the certificate")));  // said once
}

}  // namespace
}  // namespace engram::integration
