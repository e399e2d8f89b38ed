// The life of table sets in a running engramd: published beside one another, swapped under load,
// retired, refused; what operators are told, and that no lookup fails and no batch mixes sets.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "client/follower.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/base/clock.h"
#include "proto/engram/v1/lookup.grpc.pb.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "tests/integration/http_get.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kName[] = "qwen4-exp";

class TableSetsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Of one name and of different sizes, so that the rows of one are wrong for the other.
    PackSmallSet(kName, 500, scratch_ / "a");
    PackSmallSet(kName, 700, scratch_ / "b");
    PackSmallSet("deepseek-v4.1-flash", 500, scratch_ / "other");
  }
  std::vector<std::string> Flags(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"--table-set", scratch_ / "a", "--listen", "127.0.0.1:0", "--listen",
                               "unix:" + (scratch_ / "s"), "--shm-socket", scratch_ / "m",
                               "--admin-grpc-listen", Admin()});
    return more;
  }
  std::string Admin() const { return "unix:" + (scratch_ / "admin"); }
  Outcome Ask(const std::string& words) const {
    return RunShell(absl::StrCat("$ENGRAM admin ", words, " --admin ", Admin()));
  }
  Outcome Publish(const std::string& set) const {
    return Ask(absl::StrCat("publish ", scratch_ / set));
  }
  nlohmann::json List() const {
    const Outcome listed = Ask("list --json");
    EXPECT_EQ(listed.exit_code, 0) << listed.err;
    return nlohmann::json::parse(listed.out, nullptr, false);
  }
  // Waits for the number of sets that engramd still has.
  void ExpectSets(size_t count) const {
    for (int i = 0; i < 200 && List()["table_sets"].size() != count; ++i) {
      absl::SleepFor(absl::Milliseconds(50));
    }
    EXPECT_EQ(List()["table_sets"].size(), count) << List().dump(2);
  }
  static std::unique_ptr<Client> Attach(const std::string& target, const std::string& mode = "") {
    auto client = Client::Attach(target, {.timeout = absl::Seconds(20), .mode = mode});
    EXPECT_TRUE(client.ok()) << target << ": " << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }
  static absl::Status LookUpRight(Client& client, size_t tokens = 50) {
    const std::vector<int32_t> token_ids = RealTokenIds(tokens);
    const auto rows = LookUp(client, token_ids, RealClock().Now() + absl::Seconds(10));
    if (!rows.ok()) return rows.status();
    if (*rows == ExpectedRows(client.table_set(), client.addresser(), token_ids)) {
      return absl::OkStatus();
    }
    return absl::DataLossError("rows are not those of the client's table set");
  }

  ScratchDirectory scratch_;
};

TEST_F(TableSetsTest, ANameMovesAndWhoHasTheOldSetGoesOn) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "60"}));
  const std::string address = engramd.WaitUntilServing();
  const auto old_stream = Attach("grpc:" + address);
  const auto old_mapped = Attach("shm:" + (scratch_ / "m"));
  ASSERT_TRUE(LookUpRight(*old_stream).ok());
  const Outcome published = Publish("b");
  ASSERT_EQ(published.exit_code, 0) << published.err;
  EXPECT_THAT(published.out, HasSubstr("qwen4-exp now leads to "));
  const auto fresh = Attach("grpc:" + address);
  EXPECT_TRUE(engramd.WaitForLine(absl::StrCat("published qwen4-exp ", fresh->table_set().id,
                                               " from ", scratch_ / "b", " in ")));
  EXPECT_NE(fresh->table_set().id, old_stream->table_set().id);
  for (Client* client : {old_stream.get(), old_mapped.get(), fresh.get()}) {
    EXPECT_TRUE(LookUpRight(*client).ok());
  }
  const nlohmann::json sets = List()["table_sets"];
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0]["state"], "superseded");
  EXPECT_EQ(sets[0]["leases"]["mapped"], 1);
  EXPECT_EQ(sets[1]["state"], "serving");
  // As people see it in the list.
  const std::string listed = Ask("list").out, digits = fresh->table_set().id.substr(0, 12);
  EXPECT_THAT(listed, HasSubstr(digits));
  const auto by_digits = Client::Attach("grpc:" + address, {.table_set = digits});
  ASSERT_TRUE(by_digits.ok()) << by_digits.status();
  EXPECT_EQ((*by_digits)->table_set().id, fresh->table_set().id);
  // The one that was superseded is still here: it is taken back without a load.
  ASSERT_EQ(Publish("a").exit_code, 0);
  EXPECT_TRUE(engramd.WaitForLine("back: it was still here"));
  EXPECT_EQ(Attach("grpc:" + address)->table_set().id, old_stream->table_set().id);
}

TEST_F(TableSetsTest, PortsThatAreMixedUpAreNamed) {
  EngramdProcess engramd(Flags({"--admin-listen", "127.0.0.1:0"}));
  const std::string lookups = engramd.WaitUntilServing();
  const auto page_line = engramd.WaitForLine("status at http://");
  ASSERT_TRUE(page_line);
  std::string http = page_line->substr(page_line->find("http://") + 7);
  http.resize(std::min(http.find('/'), http.size()));
  // Long before the time is over in which an engramd may still come up.
  const absl::Status pages = Client::Attach("grpc:" + http, {.timeout = absl::Minutes(1)}).status();
  EXPECT_EQ(pages.code(), absl::StatusCode::kUnimplemented) << pages;
  EXPECT_THAT(std::string(pages.message()),
              AllOf(HasSubstr(http + " speaks HTTP/1, not gRPC"), HasSubstr("--admin-listen"),
                    HasSubstr("Give the address of --listen")));
  const Outcome administered = RunShell("$ENGRAM admin list --admin " + http);
  EXPECT_EQ(administered.exit_code, 1);
  EXPECT_THAT(administered.err, AllOf(HasSubstr(http + " speaks HTTP/1, not gRPC"),
                                      HasSubstr("Give the address of --admin-grpc-listen")));
  const absl::Status attached = Client::Attach("grpc:" + Admin(), {}).status();
  EXPECT_EQ(attached.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(attached.message()),
              AllOf(HasSubstr(Admin() + " answers gRPC but not Engram's lookups"),
                    HasSubstr("Give the address of --listen")));
  for (const std::string words : {"list", "scrub", "retire x", "publish /x"}) {
    const Outcome asked = RunShell(absl::StrCat("$ENGRAM admin ", words, " --admin ", lookups));
    EXPECT_EQ(asked.exit_code, 1) << words;
    EXPECT_THAT(asked.err, AllOf(HasSubstr(lookups), HasSubstr("engramd's port for lookups"),
                                 HasSubstr("/engram.v1.Admin/"), HasSubstr("--admin-grpc-listen")));
  }
}

TEST_F(TableSetsTest, APathAloneIsASocketsAndASetsIsWhole) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  for (const std::string prefix : {"", "unix:", "grpc:", "grpc:unix:"}) {
    const Outcome listed = RunShell("$ENGRAM admin list --admin " + prefix + (scratch_ / "admin"));
    EXPECT_EQ(listed.exit_code, 0) << prefix << ": " << listed.err;
  }
  const Outcome relative = RunShell("ENGRAM=$(realpath $ENGRAM); cd " + (scratch_ / ".") +
                                    "; $ENGRAM admin publish b --admin " + Admin());
  EXPECT_EQ(relative.exit_code, 2);
  EXPECT_THAT(relative.err, AllOf(HasSubstr("\"b\" is no whole path"), HasSubstr("/b)")));
  EXPECT_EQ(List()["table_sets"].size(), 1u);
}

TEST_F(TableSetsTest, ASupersededSetGoesWithItsLastLease) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "3600"}));
  const std::string address = engramd.WaitUntilServing();
  auto mapped = Attach("shm:" + (scratch_ / "m"));
  auto ring = Attach("shm:" + (scratch_ / "m"), "ring");
  ASSERT_EQ(Publish("b").exit_code, 0);
  // Whoever has a lease is served for as long as it has it; the grace is an hour.
  const auto expect_held = [&] {
    absl::SleepFor(absl::Milliseconds(500));
    const nlohmann::json sets = List()["table_sets"];
    ASSERT_EQ(sets.size(), 2u);
    EXPECT_EQ(sets[0]["state"], "superseded") << sets.dump(2);
    EXPECT_TRUE(LookUpRight(*ring).ok()) << LookUpRight(*ring);
  };
  expect_held();
  EXPECT_TRUE(LookUpRight(*mapped).ok()) << LookUpRight(*mapped);
  mapped.reset();
  expect_held();
  ring.reset();
  ExpectSets(1);
  EXPECT_TRUE(engramd.WaitForLine("freed qwen4-exp"));
}

// Nothing tells engramd of a gRPC client but its batches: a set that was asked for stays a while.
TEST_F(TableSetsTest, WhoAsksOverGrpcKeepsASupersededSet) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "3600"}));
  const auto stream = Attach("grpc:" + engramd.WaitUntilServing());
  ASSERT_TRUE(LookUpRight(*stream).ok());
  ASSERT_EQ(Publish("b").exit_code, 0);
  for (int i = 0; i < 5; ++i) {
    absl::SleepFor(absl::Milliseconds(300));
    ASSERT_TRUE(LookUpRight(*stream).ok()) << LookUpRight(*stream);
  }
  const nlohmann::json sets = List()["table_sets"];
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0]["state"], "superseded");
  EXPECT_LE(sets[0]["idle_s"], 2);
}

TEST_F(TableSetsTest, AfterTheGraceItIsRefusedOverEveryTransport) {
  EngramdProcess engramd(Flags({"--retire-grace-s", "1"}));
  const std::string address = engramd.WaitUntilServing();
  std::vector<std::unique_ptr<Client>> clients;
  clients.push_back(Attach("grpc:" + address));
  clients.push_back(Attach("grpc:" + address, "unary"));
  clients.push_back(Attach("shm:" + (scratch_ / "m")));
  clients.push_back(Attach("shm:" + (scratch_ / "m"), "ring"));
  for (const auto& client : clients) ASSERT_TRUE(LookUpRight(*client).ok());
  ASSERT_EQ(Publish("b").exit_code, 0);
  EXPECT_TRUE(engramd.WaitForLine("the grace is over, and clients still had it"));
  for (const auto& client : clients) {
    EXPECT_EQ(LookUpRight(*client).code(), absl::StatusCode::kFailedPrecondition)
        << client->transport().Describe();
  }
  // Its memory stays while a client maps it, that one alone as well.
  EXPECT_EQ(List()["table_sets"].size(), 2u);
  EXPECT_EQ(List()["table_sets"][1]["state"], "retired");
  clients.erase(clients.begin() + 3);
  clients.erase(clients.begin(), clients.begin() + 2);
  absl::SleepFor(absl::Milliseconds(500));
  const nlohmann::json sets = List()["table_sets"];
  ASSERT_EQ(sets.size(), 2u) << sets.dump(2);
  EXPECT_EQ(sets[1]["leases"]["mapped"], 1);
  EXPECT_GT(sets[1]["resident_bytes"], 0);
  clients.clear();
  ExpectSets(1);
}

TEST_F(TableSetsTest, WhatCannotBeIsRefusedAndSaysWhy) {
  const uint64_t bytes =
      std::filesystem::file_size(std::filesystem::path(scratch_ / "a") / "manifest.textproto");
  ASSERT_GT(bytes, 0u);
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  const auto refused = [&](const std::string& words) {
    const Outcome outcome = Ask(words);
    EXPECT_EQ(outcome.exit_code, 1) << words << outcome.out;
    return outcome.err;
  };
  EXPECT_THAT(refused("retire nobody"), HasSubstr("nobody is not served here; served: qwen4-exp"));
  EXPECT_THAT(refused("retire qwen4-exp"), HasSubstr("is the only one that is served"));
  // What is served already is no error: whoever asks again finds it as it was to be.
  const Outcome again = Publish("a");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, AllOf(HasSubstr("note: "), HasSubstr("is served already"),
                               Not(HasSubstr("warning"))));
  EXPECT_THAT(refused("publish " + (scratch_ / "none")), HasSubstr(scratch_ / "none"));
  WriteFile(scratch_ / "file", "no set");
  EXPECT_THAT(refused("publish " + (scratch_ / "file")), HasSubstr(scratch_ / "file"));
  // One flipped byte.
  for (const auto& entry : std::filesystem::directory_iterator(scratch_ / "b")) {
    if (entry.file_size() < 10000) continue;
    std::string all = ReadFile(entry.path());
    all[all.size() / 2] ^= 1;
    WriteFile(entry.path(), all);
    break;
  }
  EXPECT_THAT(refused("publish " + (scratch_ / "b")), HasSubstr("does not have its checksum"));
  // And nothing changed.
  EXPECT_EQ(List()["table_sets"].size(), 1u);
  ASSERT_EQ(Publish("other").exit_code, 0);
  const std::string id = List()["table_sets"][0]["id"];
  const Outcome retired = Ask("retire " + id.substr(0, 12));
  ASSERT_EQ(retired.exit_code, 0) << retired.err;
  EXPECT_THAT(retired.out, AllOf(HasSubstr("qwen4-exp " + id + " is not found by its name"),
                                 HasSubstr("--retire-grace-s")));
  EXPECT_TRUE(engramd.WaitForLine("took the name from qwen4-exp " + id));
  EXPECT_THAT(refused("retire qwen4-exp"), HasSubstr("is not served here"));
}

TEST_F(TableSetsTest, EveryoneIsToldWhereASetIsFrom) {
  const auto pack = [&](const std::string& rows, const std::string& source) {
    const Outcome packed =
        RunShell(absl::StrCat("$ENGRAM pack --synthetic --family ", kName, " --rows-per-head ",
                              rows, " --source '", source, "' --output ", scratch_ / rows));
    ASSERT_EQ(packed.exit_code, 0) << packed.err;
  };
  pack("510", "maker/<model>@r1");
  pack("522", "maker/<model>@r1");
  pack("530", "other/model@r2");
  EngramdProcess engramd({"--table-set", scratch_ / "510", "--listen", "127.0.0.1:0",
                          "--admin-grpc-listen", Admin(), "--admin-listen", "127.0.0.1:0"});
  const std::string address = engramd.WaitUntilServing();

  const auto stub =
      v1::Lookup::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::DescribeResponse described;
  ASSERT_TRUE(stub->Describe(&context, {}, &described).ok());
  ASSERT_EQ(described.table_sets_size(), 1);
  EXPECT_EQ(described.table_sets(0).provenance().repository(), "maker/<model>");
  EXPECT_EQ(described.table_sets(0).provenance().revision(), "r1");
  EXPECT_EQ(described.table_sets(0).provenance().source_kind(), "synthetic");
  EXPECT_EQ(described.table_sets(0).provenance().packed_at().size(), 20u);

  EXPECT_EQ(List()["table_sets"][0]["provenance"]["repository"], "maker/<model>");
  EXPECT_THAT(Ask("list").out, HasSubstr("from maker/<model>@r1, packed 20"));
  const auto page_line = engramd.WaitForLine("status at http://");
  ASSERT_TRUE(page_line);
  const std::string pages = page_line->substr(page_line->find("http://") + 7);
  EXPECT_THAT(HttpGet(pages, "/statusz"), HasSubstr("from maker/&lt;model&gt;@r1, packed 20"));

  const Outcome same = Publish("522");
  EXPECT_EQ(same.exit_code, 0) << same.err;
  EXPECT_THAT(same.err, Not(HasSubstr("warning")));
  const Outcome other = Publish("530");
  EXPECT_EQ(other.exit_code, 0) << other.err;
  EXPECT_THAT(other.err, AllOf(HasSubstr("warning: the name qwen4-exp led to rows of "),
                               HasSubstr("maker/<model>@r1"), HasSubstr("other/model@r2")));
  EXPECT_TRUE(engramd.WaitForLine("led to rows of maker/<model>@r1"));
}

// Its start needs no side file, and yet it is refused.
TEST_F(TableSetsTest, ADamagedSideFileIsRefused) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  const std::string file = scratch_ / "b/provenance.side";
  WriteFile(file, ReadFile(file) + "x");
  const Outcome refused = Publish("b");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr(file), HasSubstr("may be deleted")));
  std::filesystem::remove(file);
  EXPECT_EQ(Publish("b").exit_code, 0);
}

TEST_F(TableSetsTest, TheMemoryLimitRefusesAndNamesTheHolders) {
  PackSmallSet(kName, 4000, scratch_ / "large");
  EngramdProcess engramd(Flags({"--memory-limit-bytes", "20000000"}));
  engramd.WaitUntilServing();
  const auto client = Attach("shm:" + (scratch_ / "m"));
  const Outcome refused = Publish("large");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, AllOf(HasSubstr("--memory-limit-bytes 20000000"),
                                 HasSubstr("held by 1 mapped"), HasSubstr("retire one first")));
  EXPECT_TRUE(LookUpRight(*client).ok());
}

// Which set each step had is known by its manifest; a row of another would be a wrong byte.
TEST_F(TableSetsTest, SwapsUnderLoadFailNoLookupAndMixNothing) {
  int seconds = 20;
  const char* const given = std::getenv("SWAP_SECONDS");  // NOLINT(concurrency-mt-unsafe): alone
  if (given != nullptr) {
    ASSERT_TRUE(absl::SimpleAtoi(given, &seconds));
  }
  EngramdProcess engramd(Flags({"--retire-grace-s", "10", "--scrub-mib-per-s", "256"}));
  const std::string address = engramd.WaitUntilServing();
  const std::vector<std::pair<std::string, std::string>> ways = {
      {"grpc:" + address, "stream"},
      {"grpc:" + address, "unary"},
      {"grpc:unix:" + (scratch_ / "s"), "stream"},
      {"shm:" + (scratch_ / "m"), ""},
      {"shm:" + (scratch_ / "m"), "ring"}};
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  std::vector<std::atomic<uint64_t>> lookups(ways.size());
  std::vector<std::atomic<uint64_t>> switches(ways.size());
  for (size_t i = 0; i < ways.size(); ++i) {
    workers.emplace_back([&, i] {
      auto follower = Follower::Attach(
          ways[i].first, {.timeout = absl::Seconds(20), .mode = ways[i].second}, nullptr);
      ASSERT_TRUE(follower.ok()) << follower.status();
      std::shared_ptr<Client> before;
      while (!stop.load()) {
        const std::shared_ptr<Client> client = (*follower)->BeginStep();
        if (before != nullptr && client != before) ++switches[i];
        before = client;
        const absl::Status status = LookUpRight(*client, 20);
        if (!status.ok()) {
          ADD_FAILURE() << ways[i].first << " " << ways[i].second << ": " << status;
          return;
        }
        ++lookups[i];
      }
    });
  }
  int swaps = 0;
  const MonotonicTime end = RealClock().Now() + absl::Seconds(seconds);
  for (const char* next = "b"; RealClock().Now() < end; next = *next == 'b' ? "a" : "b") {
    const Outcome published = Publish(next);
    ASSERT_EQ(published.exit_code, 0) << published.err;
    ++swaps;
    absl::SleepFor(absl::Seconds(2));
  }
  stop.store(true);
  for (std::thread& worker : workers) worker.join();
  for (size_t i = 0; i < ways.size(); ++i) {
    std::printf("%s %s: %llu lookups, %llu switches of %d\n", ways[i].first.c_str(),
                ways[i].second.c_str(), static_cast<unsigned long long>(lookups[i].load()),
                static_cast<unsigned long long>(switches[i].load()), swaps);
    EXPECT_GE(switches[i].load() + 1, static_cast<uint64_t>(swaps));
    EXPECT_GT(lookups[i].load(), 10u);
  }
}

TEST_F(TableSetsTest, ScrubSaysThatAllChecksumsHold) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  const Outcome scrubbed = Ask("scrub");
  EXPECT_EQ(scrubbed.exit_code, 0) << scrubbed.err;
  EXPECT_THAT(scrubbed.out, HasSubstr("every checksum held"));
}

TEST_F(TableSetsTest, OperatorsHaveHealthReflectionAndChannelz) {
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  const auto channel = grpc::CreateChannel(Admin(), grpc::InsecureChannelCredentials());
  const auto health = grpc::health::v1::Health::NewStub(channel);
  for (const char* service : {"", "engram.v1.Lookup", "engram.v1.Admin"}) {
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    grpc::health::v1::HealthCheckResponse response;
    ASSERT_TRUE(health->Check(&context, request, &response).ok()) << service;
    EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING) << service;
  }
  const Outcome far = RunShell(
      absl::StrCat("timeout 5 $ENGRAM admin list --admin ", "unix:", scratch_ / "nothing"));
  EXPECT_EQ(far.exit_code, 1);
  EXPECT_THAT(far.err, HasSubstr("--admin-grpc-listen"));
}

TEST_F(TableSetsTest, OneIsPublishedAtATime) {
  PackSmallSet(kName, 60000, scratch_ / "large");
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  std::thread publisher([&] { EXPECT_EQ(Publish("large").exit_code, 0); });
  EXPECT_TRUE(engramd.WaitForLine("loading " + (scratch_ / "large")));
  const Outcome second = Publish("b");
  publisher.join();
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_THAT(second.err,
              HasSubstr("another table set is being published, from " + (scratch_ / "large")));
}

// A drain does not wait for a load.
TEST_F(TableSetsTest, SigtermDuringAPublicationEndsInGoodOrder) {
  PackSmallSet(kName, 60000, scratch_ / "large");
  EngramdProcess engramd(Flags());
  engramd.WaitUntilServing();
  std::thread publisher([&] { EXPECT_EQ(Publish("large").exit_code, 1); });
  EXPECT_TRUE(engramd.WaitForLine("loading " + (scratch_ / "large")));
  engramd.Signal(SIGTERM);
  EXPECT_EQ(engramd.WaitForEnd(), 0);
  publisher.join();
  EXPECT_THAT(engramd.Log(), HasSubstr("stopped"));
}

}  // namespace
}  // namespace engram::integration
