// engramd as a process: what stops its start and with which code, and what clients see of it when
// it comes late, hangs, or dies. How it ends when it is told to: engramd_end_test.cc.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class EngramdTest : public ::testing::Test {
 protected:
  void SetUp() override { PackSmallSet("deepseek-v4.1-flash", 500, Set()); }
  std::string Set() const { return scratch_ / "set"; }
  std::string Socket() const { return "unix:" + (scratch_ / "s"); }
  std::vector<std::string> Flags() const { return {"--table-set", Set(), "--listen", Socket()}; }

  // It must end by itself with `exit_code`, never having listened; returns what it said.
  static std::string FailedStart(int exit_code, const std::vector<std::string>& flags) {
    EngramdProcess engramd(flags);
    EXPECT_FALSE(engramd.WaitForLine("listening on")) << engramd.Log();
    EXPECT_EQ(engramd.WaitForEnd(), exit_code) << engramd.Log();
    return engramd.Log();
  }

  ScratchDirectory scratch_;
};

TEST_F(EngramdTest, BadUsageEndsItWith2) {
  EXPECT_THAT(FailedStart(2, {"--listen", Socket()}), HasSubstr("--table-set DIR"));
  EXPECT_THAT(FailedStart(2, {"--table-set", Set()}), HasSubstr("--listen"));
  EXPECT_THAT(FailedStart(2, {"--no-such-flag"}), HasSubstr("--no-such-flag"));
  WriteFile(scratch_ / "config", "listen: \"h:1\"\ntable_sets: \"/x\"\n");
  EXPECT_THAT(FailedStart(2, {"--config", scratch_ / "config"}),
              HasSubstr((scratch_ / "config") + ":2:"));
}

TEST_F(EngramdTest, AMissingOrDoubleTableSetEndsItWith1) {
  EXPECT_THAT(FailedStart(1, {"--table-set", scratch_ / "none", "--listen", Socket()}),
              HasSubstr(scratch_ / "none"));
  EXPECT_THAT(FailedStart(1, {"--table-set", Set(), "--table-set", Set(), "--listen", Socket()}),
              HasSubstr("is given twice"));
}

// A lookup that failed can be found by its caller's trace; a client that only fails fills no log.
TEST_F(EngramdTest, LookupsThatFailAreLoggedWithTheirTraceAndNotWithoutBound) {
  constexpr char kTrace[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  std::vector<std::string> flags = Flags();
  flags.insert(flags.end(), {"--log-format", "json"});
  EngramdProcess engramd(flags);
  engramd.WaitUntilServing();
  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(Socket(), grpc::InsecureChannelCredentials()));
  const auto fail = [&](const std::string& trace) {
    grpc::ClientContext context;
    context.AddMetadata("traceparent", trace);
    v1::LookupRequest request;
    request.set_batch_id(42);
    v1::LookupResponse response;
    EXPECT_EQ(stub->Lookup(&context, request, &response).error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  };
  fail(kTrace);
  const auto line = engramd.WaitForLine("batch 42 INVALID_ARGUMENT");
  ASSERT_TRUE(line);
  EXPECT_THAT(*line,
              AllOf(HasSubstr(kTrace), HasSubstr("\"level\":\"info\""), HasSubstr("lookup 0-"),
                    HasSubstr("\"event\":\"lookup_refused\""), HasSubstr("\"batch_id\":42")));
  fail("not a trace");
  for (int i = 0; i < 500; ++i) fail("");
  absl::SleepFor(absl::Seconds(1));
  fail("");
  EXPECT_TRUE(engramd.WaitForLine("lines of lookups were left out"));
  const std::string log = engramd.Log();
  EXPECT_THAT(log, Not(HasSubstr("not a trace")));
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 150);
  for (const absl::string_view one : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    if (!absl::StartsWith(one, "{")) continue;
    EXPECT_THAT(std::string(one), HasSubstr("\"event\":\""));
  }
}

// As systemd does with Type=notify.
TEST_F(EngramdTest, TellsWhoStartedItWhenItServesAndWhenItStops) {
  const int socket = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  ASSERT_GE(socket, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = scratch_ / "notify";
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  ASSERT_EQ(bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const timeval patience{.tv_sec = 20, .tv_usec = 0};
  setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const auto hear = [socket](const std::string& what) {
    char message[1000];
    while (true) {
      const ssize_t bytes = recv(socket, message, sizeof(message), 0);
      if (bytes <= 0) return false;
      if (std::string(message, bytes).find(what) != std::string::npos) return true;
    }
  };
  EngramdProcess engramd(Flags(), {"env", "NOTIFY_SOCKET=" + path});
  EXPECT_TRUE(hear("READY=1"));
  EXPECT_TRUE(Client::Attach("grpc:" + Socket(), {}).ok());
  engramd.Signal(SIGTERM);
  EXPECT_TRUE(hear("STOPPING=1"));
  EXPECT_EQ(engramd.WaitForEnd(), 0);
  close(socket);
}

// What describes the server to strangers is for this machine, and for operators.
TEST_F(EngramdTest, ReflectsOnThisMachineAlone) {
  const auto reflects = [&](const std::string& listen) {
    EngramdProcess engramd({"--table-set", Set(), "--listen", listen, "--allow-plaintext", "data"});
    std::string address = engramd.WaitUntilServing();
    if (address.starts_with("0.0.0.0")) address.replace(0, 7, "127.0.0.1");
    grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(
        &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        grpc::ByteBuffer(), &queue);
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->StartCall();
    call->Finish(&answer, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return status.error_code() != grpc::StatusCode::UNIMPLEMENTED;
  };
  EXPECT_TRUE(reflects("127.0.0.1:0"));
  EXPECT_FALSE(reflects("0.0.0.0:0"));
}

// A client that names one could not know which it gets.
TEST_F(EngramdTest, TwoSetsOfOneNameEndItWith1AndNameBoth) {
  PackSmallSet("deepseek-v4.1-flash", 600, scratch_ / "other");
  const std::string log = FailedStart(
      1, {"--table-set", Set(), "--table-set", scratch_ / "other", "--listen", Socket()});
  EXPECT_THAT(log, HasSubstr("two table sets are named deepseek-v4.1-flash, " + Set() + " and " +
                             (scratch_ / "other")));
  EXPECT_THAT(log, HasSubstr("--name"));
}

// What can be known before the tables are loaded stops it before.
TEST_F(EngramdTest, WhatWouldStopItLaterStopsItBeforeItLoads) {
  std::vector<std::string> few_rows = Flags();
  few_rows.insert(few_rows.end(), {"--max-batch-rows", "47"});
  const std::string too_few = FailedStart(1, few_rows);
  EXPECT_THAT(too_few, HasSubstr("--max-batch-rows 47"));
  EXPECT_THAT(too_few, HasSubstr("give 48 or more"));
  EngramdProcess first({"--table-set", Set(), "--listen", "127.0.0.1:0"});
  const std::string taken = first.WaitUntilServing();
  const std::string in_use = FailedStart(1, {"--table-set", Set(), "--listen", taken});
  std::vector<std::string> operators = Flags();
  operators.insert(operators.end(), {"--admin-grpc-listen", taken});
  const std::string operators_in_use = FailedStart(1, operators);
  EXPECT_THAT(operators_in_use, HasSubstr("--admin-grpc-listen: cannot listen on " + taken));
  const std::string no_folder =
      FailedStart(1, {"--table-set", Set(), "--listen", "unix:" + (scratch_ / "no/s")});
  EXPECT_THAT(no_folder, HasSubstr("directory " + (scratch_ / "no") + ": No such file"));
  for (const std::string& log : {too_few, in_use, operators_in_use, no_folder}) {
    EXPECT_THAT(log, Not(HasSubstr("loading")));
  }
}

// It says what would stop engramd, as far as that holds while another one serves by the same
// configuration.
TEST_F(EngramdTest, CheckConfigLooksAtTableSetsAndSocketFolders) {
  const auto check = [](std::vector<std::string> flags) {
    flags.push_back("--check-config");
    EngramdProcess engramd(flags);
    EXPECT_FALSE(engramd.WaitForLine("listening on"));  // waits for the log's end
    return std::pair(engramd.WaitForEnd(), engramd.Log());
  };
  EngramdProcess serving(Flags());
  serving.WaitUntilServing();
  EXPECT_EQ(check(Flags()).first, 0);
  const auto [missing, missing_log] =
      check({"--table-set", scratch_ / "none", "--listen", Socket()});
  EXPECT_EQ(missing, 2);
  EXPECT_THAT(missing_log, AllOf(HasSubstr(scratch_ / "none"), HasSubstr("no such directory")));
  EXPECT_EQ(check({"--table-set", scratch_ / ".", "--listen", Socket()}).first, 2);
  // All that is wrong, a line each: values, and files that they name.
  const auto [several, several_log] =
      check({"--table-set", scratch_ / "none", "--listen", Socket(), "--spin-us", "1001",
             "--log-level", "loud", "--state-dir", Set() + "/manifest.textproto"});
  EXPECT_EQ(several, 2);
  for (const char* line : {"FAILED  --spin-us 1001 is not between", "FAILED  --log-level loud",
                           "FAILED  table set ", "FAILED  --state-dir "}) {
    EXPECT_THAT(several_log, HasSubstr(line));
  }
  const std::string nowhere = scratch_ / "no/s";
  for (const auto& [flag, value] : {std::pair{"--listen", "unix:" + nowhere},
                                    {"--admin-grpc-listen", "unix:" + nowhere},
                                    {"--shm-socket", nowhere}}) {
    std::vector<std::string> flags = Flags();
    flags.insert(flags.end(), {flag, value});
    const auto [code, log] = check(flags);
    EXPECT_EQ(code, 2) << flag;
    EXPECT_THAT(log, AllOf(HasSubstr(flag), HasSubstr("directory " + (scratch_ / "no"))));
  }
  EXPECT_TRUE(Client::Attach("grpc:" + Socket(), {}).ok());
}

TEST_F(EngramdTest, OneFlippedBitInAnyFileEndsItBeforeItListens) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Set())) {
    const std::string path = entry.path();
    const std::string bytes = ReadFile(path);
    // The last byte of a shard is padding.
    for (const size_t at : {size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      std::string flipped = bytes;
      flipped[at] ^= 0x10;
      WriteFile(path, flipped);
      const std::string log = FailedStart(1, Flags());
      EXPECT_THAT(log, HasSubstr(Set())) << path << " at " << at;
    }
    WriteFile(path, bytes);
    ++files;
  }
  // Manifest and digest, token map, provenance, image token ids, two shards, their checksums and
  // their pages'.
  EXPECT_EQ(files, 11u);
  EngramdProcess whole_again(Flags());
  EXPECT_FALSE(whole_again.WaitUntilServing().empty());
}

TEST_F(EngramdTest, ATruncatedShardIsNamed) {
  for (const auto& entry : std::filesystem::directory_iterator(Set())) {
    if (entry.file_size() < 1'000'000) continue;  // shards alone are that large
    std::filesystem::resize_file(entry.path(), entry.file_size() - 4096);
    EXPECT_THAT(FailedStart(1, Flags()), HasSubstr(entry.path().filename().string()));
    return;
  }
  FAIL() << "no shard found";
}

TEST_F(EngramdTest, AnAddressInUseEndsItWith1AndNamesIt) {
  EngramdProcess first({"--table-set", Set(), "--listen", "127.0.0.1:0", "--listen", Socket()});
  const std::string tcp = first.WaitUntilServing(0);
  for (const std::string& address : {tcp, Socket()}) {
    EXPECT_THAT(FailedStart(1, {"--table-set", Set(), "--listen", address}),
                HasSubstr("cannot listen on " + address + ": it is in use"));
  }
  EXPECT_TRUE(Client::Attach("grpc:" + Socket(), {}).ok());
}

TEST_F(EngramdTest, TheSocketOfAKilledEngramdIsReplaced) {
  {
    EngramdProcess killed(Flags());
    ASSERT_FALSE(killed.WaitUntilServing().empty());
    killed.Signal(SIGKILL);
    EXPECT_EQ(killed.WaitForEnd(), -SIGKILL);
  }
  EXPECT_EQ(access((scratch_ / "s").c_str(), F_OK), 0);
  EngramdProcess engramd(Flags());
  EXPECT_EQ(engramd.WaitUntilServing(), Socket());
}

// Connections that nobody uses, opened until the server turns one away.
class IdleConnections {
 public:
  explicit IdleConnections(const std::string& path) : path_(path) {}
  ~IdleConnections() {
    for (const int fd : fds_) close(fd);
  }
  void Open(size_t count) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    path_.copy(name.sun_path, sizeof(name.sun_path) - 1);
    for (size_t i = 0; i < count; ++i) {
      fds_.push_back(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(connect(fds_.back(), reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
    }
  }

 private:
  const std::string path_;
  std::vector<int> fds_;
};

TEST_F(EngramdTest, ServesAgainAfterAFloodOfConnections) {
  EngramdProcess engramd(Flags(), {"prlimit", "--nofile=160:160"});
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  const auto before = Client::Attach("grpc:" + Socket(), {});
  ASSERT_TRUE(before.ok()) << before.status();
  const std::vector<int32_t> ids = RealTokenIds(3);
  {
    IdleConnections flood(scratch_ / "s");
    flood.Open(300);
    ASSERT_TRUE(engramd.WaitForLine("cannot take a connection"));
    // Who was there is served all the time.
    EXPECT_TRUE(LookUp(**before, ids, RealClock().Now() + absl::Seconds(60)).ok());
  }
  const auto after = Client::Attach("grpc:" + Socket(), {});
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_TRUE(LookUp(**after, ids, RealClock().Now() + absl::Seconds(60)).ok());
}

TEST_F(EngramdTest, TooFewFilesEndItWith1) {
  EngramdProcess engramd(Flags(), {"prlimit", "--nofile=100:100"});
  EXPECT_EQ(engramd.WaitForEnd(), 1);
  EXPECT_TRUE(engramd.WaitForLine("this process may open 100 files")) << engramd.Log();
}

TEST_F(EngramdTest, AttachWaitsForAServerThatStartsLater) {
  absl::StatusOr<std::unique_ptr<Client>> client = absl::UnknownError("");
  std::thread attaching([&] {
    client = Client::Attach("grpc:" + Socket(), {.table_set = {}, .timeout = absl::Seconds(60)});
  });
  EngramdProcess engramd(Flags());
  attaching.join();
  ASSERT_TRUE(client.ok()) << client.status();
  const std::vector<int32_t> ids = RealTokenIds(3);
  EXPECT_TRUE(LookUp(**client, ids, RealClock().Now() + absl::Seconds(60)).ok());
}

TEST_F(EngramdTest, AttachGivesUpOnAServerThatIsNotThere) {
  const auto client =
      Client::Attach("grpc:" + Socket(), {.table_set = {}, .timeout = absl::Milliseconds(300)});
  EXPECT_EQ(client.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(client.status().message()), HasSubstr(Socket()));
}

// A stopped server takes a batch's requests and answers nothing.
TEST_F(EngramdTest, ALookupEndsByItsDeadlineWhenTheServerHangs) {
  EngramdProcess engramd(Flags());
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  const auto client = Client::Attach("grpc:" + Socket(), {});
  ASSERT_TRUE(client.ok()) << client.status();
  engramd.Signal(SIGSTOP);
  const std::vector<int32_t> ids = RealTokenIds(64);
  const MonotonicTime deadline = RealClock().Now() + absl::Milliseconds(300);
  const auto rows = LookUp(**client, ids, deadline);
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kDeadlineExceeded) << rows.status();
  engramd.Signal(SIGCONT);
  // The client recovers when the server does.
  EXPECT_TRUE(LookUp(**client, ids, RealClock().Now() + absl::Seconds(60)).ok());
}

TEST_F(EngramdTest, ALookupNeverLandsWhenTheServerIsKilled) {
  EngramdProcess engramd(Flags());
  ASSERT_FALSE(engramd.WaitUntilServing().empty());
  const auto client = Client::Attach("grpc:" + Socket(), {});
  ASSERT_TRUE(client.ok()) << client.status();
  Client::Plan plan;
  ASSERT_TRUE((*client)->PlanTokens(Addresser::Start(), RealTokenIds(1000), {}, &plan).ok());
  std::vector<std::byte> rows(1000 * TokenBytes((*client)->table_set()));
  engramd.Signal(SIGSTOP);
  const auto ticket = (*client)->Submit(plan, DenseLandings((*client)->table_set(), rows.data()),
                                        RealClock().Now() + absl::Seconds(30));
  ASSERT_TRUE(ticket.ok()) << ticket.status();
  EXPECT_EQ((*client)->Poll(*ticket), TicketState::kInFlight);
  engramd.Signal(SIGKILL);
  const absl::Status status = (*client)->Wait(*ticket);
  EXPECT_THAT(status.code(),
              AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kDeadlineExceeded))
      << status;
  EXPECT_EQ((*client)->Poll(*ticket), TicketState::kFailedLent);
  (*client)->Reap(*ticket);
  EXPECT_EQ((*client)->Poll(*ticket), TicketState::kReaped);
  EXPECT_TRUE(std::all_of(rows.begin(), rows.end(), [](std::byte b) { return b == std::byte{0}; }));
}

// One message of bytes to any method and back, as generic tools do it.
grpc::Status CallRaw(const std::string& address, const std::string& method,
                     const std::string& request, std::string* reply = nullptr) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(request);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr);
  queue.Next(&tag, &ok);
  grpc::ByteBuffer received;
  call->Read(&received, nullptr);
  queue.Next(&tag, &ok);
  if (grpc::Slice whole; ok && reply != nullptr && received.DumpToSingleSlice(&whole).ok()) {
    reply->assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
  }
  if (ok) context.TryCancel();  // a Watch goes on
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return status;
}

// Parsing what is large keeps the loop from lookups, and would be done before the caller is known.
TEST_F(EngramdTest, MessagesOfSmallMethodsAreSmall) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  std::string many;
  while (many.size() < (1 << 20)) many.append("\x12\0", 2);  // empty strings of field 2
  for (const char* method :
       {"/engram.v1.Lookup/Attach", "/engram.v1.Lookup/Describe", "/engram.v1.Lookup/Watch",
        "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}) {
    const grpc::Status large = CallRaw(address, method, many);
    EXPECT_EQ(large.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_THAT(large.error_message(), HasSubstr("1048576 bytes")) << method;
    const grpc::Status broken = CallRaw(address, method, "\x0a\x7f");
    EXPECT_EQ(broken.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_THAT(broken.error_message(), HasSubstr("the message is no ")) << method;
  }
}

TEST_F(EngramdTest, AnswersHealthChecksAndReflection) {
  EngramdProcess engramd(Flags());
  const std::string address = engramd.WaitUntilServing();
  const std::string service = "engram.v1.Lookup";
  const std::string serving("\x08\x01", 2);  // HealthCheckResponse{status: SERVING}
  const auto answer = [&](const std::string& method, const std::string& request) {
    std::string reply;
    CallRaw(address, method, request, &reply);
    return reply;
  };
  EXPECT_EQ(answer("/grpc.health.v1.Health/Check", ""), serving);
  const std::string named = std::string("\x0A") + static_cast<char>(service.size()) + service;
  EXPECT_EQ(answer("/grpc.health.v1.Health/Check", named), serving);
  const std::string list_services("\x3A\x00", 2);  // ServerReflectionRequest{list_services: ""}
  EXPECT_THAT(
      answer("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", list_services),
      HasSubstr(service));
}

TEST_F(EngramdTest, ServesExactRowsUnderEveryNumaPolicy) {
  const std::vector<int32_t> ids = RealTokenIds(20);
  for (const std::string policy : {"local", "interleave", "bind:0"}) {
    std::vector<std::string> flags = Flags();
    flags.insert(flags.end(), {"--numa", policy});
    EngramdProcess engramd(flags);
    ASSERT_FALSE(engramd.WaitUntilServing().empty()) << policy;
    const auto client = Client::Attach("grpc:" + Socket(), {});
    ASSERT_TRUE(client.ok()) << client.status();
    const auto rows = LookUp(**client, ids, RealClock().Now() + absl::Seconds(60));
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_TRUE(*rows == ExpectedRows((*client)->table_set(), (*client)->addresser(), ids));
  }
  for (const std::string policy : {"bind:4096", "bind:", "near"}) {
    std::vector<std::string> flags = Flags();
    flags.insert(flags.end(), {"--numa", policy});
    EXPECT_THAT(FailedStart(2, flags), HasSubstr(policy));
  }
}

TEST_F(EngramdTest, TakesItsConfigurationFromAFile) {
  WriteFile(scratch_ / "config",
            absl::StrCat("table_set: \"", Set(), "\"\nlisten: \"", Socket(), "\"\n"));
  EngramdProcess engramd({"--config", scratch_ / "config"});
  EXPECT_EQ(engramd.WaitUntilServing(), Socket());
}

// The example that is shipped keeps to the schema: what stops it is that its table is not here.
TEST_F(EngramdTest, TheExampleConfigurationIsOne) {
  EXPECT_THAT(FailedStart(1, {"--config", "deploy/engramd.textproto"}),
              HasSubstr("/var/lib/engram/deepseek-v4.1-flash"));
}

}  // namespace
}  // namespace engram::integration
