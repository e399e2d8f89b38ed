#include "server/metrics/exposition.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/metrics/admin_refusals.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Exposition, HasTheProcessUnderTheNamesThatAllProgramsHave) {
  ServerSnapshot snapshot;
  snapshot.start_time = 1000;
  snapshot.process = {.cpu_seconds = 1.5,
                      .resident_bytes = 4096,
                      .virtual_bytes = 8192,
                      .threads = 7,
                      .open_files = 12,
                      .most_open_files = 1024,
                      .huge_pages = {.total_bytes = 4 << 20, .free_bytes = 2 << 20}};
  snapshot.numa_bytes = {{0, 10}, {1, 20}};
  const std::string text = ExposeMetrics({}, snapshot);
  for (const char* line : {
           "\nprocess_cpu_seconds_total 1.5\n",
           "\nprocess_resident_memory_bytes 4096\n",
           "\nprocess_virtual_memory_bytes 8192\n",
           "\nprocess_threads 7\n",
           "\nprocess_open_fds 12\n",
           "\nprocess_max_fds 1024\n",
           "\nprocess_start_time_seconds 1000\n",
           "\nengram_server_numa_bytes{node=\"1\"} 20\n",
           "\nengram_server_host_huge_page_bytes{state=\"total\"} 4194304\n",
       }) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST(Exposition, TellsHowMuchOfASetIsHeld) {
  ServerSnapshot snapshot;
  TableSetStatus& set = snapshot.table_sets.emplace_back();
  set.name = "n";
  set.id = "i";
  set.held_bytes = 10;
  set.table_bytes = 40;
  const std::string text = ExposeMetrics({}, snapshot);
  for (const char* line : {"engram_server_held_bytes{", "engram_server_table_bytes{"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  EXPECT_THAT(text, ::testing::ContainsRegex("server_held_bytes.[^}]*} 10\n"));
  EXPECT_THAT(text, ::testing::ContainsRegex("server_table_bytes.[^}]*} 40\n"));
  EXPECT_THAT(text, HasSubstr("\nengram_server_partition_info{partition=\"all\"} 1\n"));
  snapshot.partition = "1/4";
  EXPECT_THAT(ExposeMetrics({}, snapshot),
              HasSubstr("\nengram_server_partition_info{partition=\"1/4\"} 1\n"));
}

TEST(Exposition, TellsTheGenerationOfWhatIsServed) {
  ServerSnapshot snapshot;
  for (const char* name : {"served", "superseded"}) {
    TableSetStatus& set = snapshot.table_sets.emplace_back();
    set.name = set.id = name;
  }
  snapshot.table_sets[0].generation = 7;
  const std::string text = ExposeMetrics({}, snapshot);
  EXPECT_THAT(text, ::testing::ContainsRegex("table_set_generation.[^}]*served[^}]*} 7\n"));
  EXPECT_THAT(text, Not(::testing::ContainsRegex("table_set_generation.[^}]*superseded")));
}

TEST(Exposition, TellsWhyConnectionsWereEnded) {
  ServerSnapshot snapshot;
  snapshot.connections_ended = {.long_header_block = 1, .idle_frames = 2, .memory = 3, .unread = 4};
  const std::string text = ExposeMetrics({}, snapshot);
  const std::string series = "\nengram_server_connections_ended_total{reason=";
  EXPECT_THAT(text, HasSubstr(series + "\"long_header_block\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"idle_frames\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"memory\"} 3\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"unread\"} 4\n"));
}

TEST(Exposition, TellsWhetherTheTokenFileIsUsedAsItIs) {
  ServerSnapshot snapshot;
  EXPECT_THAT(ExposeMetrics({}, snapshot), Not(HasSubstr("token_file_refused"))) << "there is none";
  snapshot.tokens_refused = false;
  EXPECT_THAT(ExposeMetrics({}, snapshot), HasSubstr("\nengram_server_token_file_refused 0\n"));
  snapshot.tokens_refused = true;
  EXPECT_THAT(ExposeMetrics({}, snapshot), HasSubstr("\nengram_server_token_file_refused 1\n"));
}

TEST(Exposition, TellsWhetherItIsRegisteredWhereItRegisters) {
  ServerSnapshot snapshot;
  EXPECT_THAT(ExposeMetrics({}, snapshot), Not(HasSubstr("registered")));
  snapshot.registration = {.registered = false, .failures = 3};
  EXPECT_THAT(ExposeMetrics({}, snapshot),
              AllOf(HasSubstr("\nengram_server_registered 0\n"),
                    HasSubstr("\nengram_server_registration_failures_total 3\n")));
}

// As /readyz: a fenced set that is not missed is no reason to alert.
TEST(Exposition, TellsWhichFencedSetIsMissed) {
  ServerSnapshot snapshot;
  for (const char* name : {"damaged", "healed", "served"}) {
    TableSetStatus& set = snapshot.table_sets.emplace_back();
    set.name = set.id = name;
    set.state = TableSetState::kFenced;
  }
  snapshot.table_sets[1].missed = false;
  snapshot.table_sets[2].state = TableSetState::kServing;
  const std::string text = ExposeMetrics({}, snapshot);
  const std::string series = "\nengram_server_table_set_missed{name=";
  EXPECT_THAT(text, HasSubstr(series + "\"damaged\",id=\"damaged\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"healed\",id=\"healed\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"served\",id=\"served\"} 0\n"));
}

TEST(Exposition, SaysThatItIsNotReadyWhileItsStateIsServing) {
  ServerSnapshot snapshot;
  EXPECT_THAT(ExposeMetrics({}, snapshot), HasSubstr("\nengram_server_ready 0\n")) << "it loads";
  snapshot.state = LifeState::kServing;
  EXPECT_THAT(ExposeMetrics({}, snapshot), HasSubstr("\nengram_server_ready 1\n"));
  snapshot.table_sets.emplace_back().state = TableSetState::kFenced;
  const std::string text = ExposeMetrics({}, snapshot);
  EXPECT_THAT(text, HasSubstr("\nengram_server_ready 0\n"));
  EXPECT_THAT(text, HasSubstr("\nengram_server_state{state=\"serving\"} 1\n"));
}

TEST(Exposition, TellsDeadTokensFromLiveOnes) {
  MetricSums sums;
  sums.token_lookups = 4;
  sums.all_dead_lookups = 1;
  sums.tokens = 100;
  sums.dead_tokens = 30;
  const std::string text = ExposeMetrics(sums, {});
  EXPECT_THAT(text, HasSubstr("\nengram_server_tokens_total{state=\"live\"} 70\n"));
  EXPECT_THAT(text, HasSubstr("\nengram_server_tokens_total{state=\"dead\"} 30\n"));
  EXPECT_THAT(text, HasSubstr("\nengram_server_all_dead_lookups_total 1\n"));
}

// A rate over what was not there before begins at its second count.
TEST(Exposition, HasTheRefusalsOfOperatorsBeforeThereIsOne) {
  const std::string text = ExposeMetrics({}, {});
  for (const char* method : kAdminMethodNames) {
    for (const char* code : {"UNAUTHENTICATED", "PERMISSION_DENIED"}) {
      EXPECT_THAT(text, HasSubstr(absl::StrCat("\nengram_server_admin_refusals_total{method=\"",
                                               method, "\",code=\"", code, "\"} 0\n")));
    }
  }
}

// Finer buckets are for the status page: what is published stays at powers of two.
TEST(Exposition, PublishesLatenciesByPowersOfTwo) {
  MetricSums sums;
  sums.request_seconds[0].counts[LatencyHistogram::IndexOf(2'400)] = 3;
  sums.request_seconds[0].counts[LatencyHistogram::IndexOf(3'900)] = 4;
  const std::string text = ExposeMetrics(sums, {});
  const std::string series = "engram_server_request_seconds_bucket{transport=\"grpc_stream\",le=";
  EXPECT_THAT(text, HasSubstr(series + "\"4e-06\"} 7\n"));
  EXPECT_THAT(text, HasSubstr(series + "\"2e-06\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("le=\"2.5e-06\"")));
}

}  // namespace
}  // namespace engram
