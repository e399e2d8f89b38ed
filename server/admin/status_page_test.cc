#include "server/admin/status_page.h"

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// For people's eyes: bazel keeps it under bazel-testlogs, in outputs.zip.
void Keep(const std::string& page) {
  const char* const folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  if (folder == nullptr) return;
  const auto* const test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::ofstream(absl::StrCat(folder, "/", test->name(), ".html")) << page;
}

class StatusPageTest : public ::testing::Test {
 protected:
  StatusPageTest() {
    snapshot_.state = LifeState::kServing;
    snapshot_.host = "engram-store-0";
    snapshot_.addresses = {"0.0.0.0:7300"};
    snapshot_.uptime = absl::Minutes(200);
    snapshot_.process = {.cpu_seconds = 754,
                         .resident_bytes = 4'300'000'000,
                         .virtual_bytes = 9'000'000'000,
                         .threads = 23,
                         .open_files = 71,
                         .most_open_files = 1'048'576,
                         .huge_pages = {}};
    snapshot_.numa_bytes = {{0, 2'200'000'000}, {1, 2'100'000'000}};
    TableSetStatus set;
    set.name = "deepseek-v4.1-flash";
    set.id = std::string(64, 'a');
    set.directory = "/tables/<b>flash";
    set.age = std::chrono::seconds(3754);
    set.pages = {.hugetlb = 0, .transparent_huge = 4'000'000'000, .small = 58'000'000};
    set.leases[static_cast<size_t>(LeaseKind::kMapped)] = 2;
    set.leases[static_cast<size_t>(LeaseKind::kRing)] = 1;
    set.layers = {{.layer = 1, .rows = 9'450'000, .row_bytes = 264, .shards = 10}};
    snapshot_.table_sets.push_back(set);
    for (int i = 0; i < 30; ++i) {
      history_.push_back({.requests_per_s = 1000.0 + i,
                          .rows_per_s = 1.5e6 + 1e4 * i,
                          .p50_s = 120e-6,
                          .p99_s = 310e-6 + 1e-5 * (i % 7)});
    }
  }
  std::string Page() const {
    const std::string page =
        MakeStatusPage(snapshot_, sums_, history_,
                       std::vector<EffectiveField>{{"listen", "0.0.0.0:7300", "flag --listen"},
                                                   {"numa", "default", "default"}});
    Keep(page);
    return page;
  }

  ServerSnapshot snapshot_;
  MetricSums sums_;
  std::vector<HistoryPoint> history_;
};

TEST_F(StatusPageTest, OfAPartItSaysWhichItIs) {
  EXPECT_THAT(Page(), ::testing::Not(HasSubstr("holds columns")));
  snapshot_.table_sets[0].held = "columns 0..1, 8..9";
  snapshot_.table_sets[0].held_bytes = uint64_t{1} << 30;
  snapshot_.table_sets[0].table_bytes = uint64_t{4} << 30;
  EXPECT_THAT(Page(), HasSubstr("<br>holds columns 0..1, 8..9, 1.0 of 4.0 GiB"));
}

TEST_F(StatusPageTest, SaysWhetherClientsFindItAndWhichPublicationItServes) {
  EXPECT_THAT(Page(), AllOf(Not(HasSubstr("registered in etcd")), Not(HasSubstr("generation"))));
  snapshot_.registration = {.registered = true, .failures = 0};
  snapshot_.table_sets[0].generation = 3;
  EXPECT_THAT(Page(), AllOf(HasSubstr("registered in etcd</dt><dd>yes</dd>"),
                            HasSubstr("<br>generation 3<")));
  snapshot_.registration = {.registered = false, .failures = 7};
  EXPECT_THAT(Page(), HasSubstr("registered in etcd</dt><dd>no, 7 failures</dd>"));
}

TEST_F(StatusPageTest, SaysWhichServerItIs) {
  EXPECT_THAT(Page(), AllOf(HasSubstr("<title>engram-store-0: SERVING – engramd</title>"),
                            HasSubstr("<h1>engram-store-0</h1>"),
                            HasSubstr("serves at <code>0.0.0.0:7300</code>"),
                            HasSubstr("up for 3 hours 20 minutes")));
}

TEST_F(StatusPageTest, ShowsSetsMemoryAndWhoIsNotCounted) {
  const std::string page = Page();
  EXPECT_THAT(page,
              AllOf(HasSubstr("for 1 hour 2 minutes"),
                    HasSubstr("<i class=\"blue\"></i>3.7 GiB on transparent-huge, "),
                    HasSubstr("<i class=\"orange\"></i>55.3 MiB on 4KiB pages"),
                    HasSubstr("clients: 2 mapped, 1 ring"),
                    HasSubstr("layer 1: 9.45 M rows of 264 bytes, 2.3 GiB in 10 shards"),
                    HasSubstr("node 0: 2.0 GiB<br>node 1: 2.0 GiB"),
                    HasSubstr("2 clients read the tables in place"), HasSubstr("71 of 1.05 M")));
  EXPECT_THAT(page, AllOf(HasSubstr("/tables/&lt;b&gt;flash"), Not(HasSubstr("/tables/<b>"))));
  // Nothing is fetched from elsewhere.
  EXPECT_THAT(page, AllOf(Not(HasSubstr("http://")), Not(HasSubstr("https://"))));
  snapshot_.table_sets[0].leases = {};
  EXPECT_THAT(Page(), Not(HasSubstr("the tables in place")));
}

TEST_F(StatusPageTest, SaysHowManyTokensAreDead) {
  EXPECT_THAT(Page(), HasSubstr("<dt>lookups of dead tokens alone</dt><dd>–</dd>"));
  sums_.tokens = 200;
  sums_.dead_tokens = 50;
  sums_.token_lookups = 200;
  sums_.all_dead_lookups = 1;
  EXPECT_THAT(Page(), AllOf(HasSubstr("<dt>dead tokens</dt><dd>25 %</dd>"),
                            HasSubstr("<dt>lookups of dead tokens alone</dt><dd>0.5 %</dd>")));
}

TEST_F(StatusPageTest, LoadingHasABarAndTheTimeThatIsLeft) {
  snapshot_.state = LifeState::kLoading;
  snapshot_.table_sets.clear();
  history_.clear();
  snapshot_.loading =
      TableSetLoad{.directory = "/tables/new",
                   .progress = {.bytes_done = 75'600'000'000, .bytes_total = 189'000'000'000},
                   .since = {},
                   .elapsed = absl::Seconds(60)};
  EXPECT_THAT(Page(),
              AllOf(HasSubstr("class=\"state wait\">LOADING"), HasSubstr("style=\"width:40.00%\""),
                    HasSubstr("70.4 of 176.0 GiB (40 %), 1.2 GiB per second, about <b>1 "
                              "minute 30 seconds</b> left"),
                    HasSubstr("none yet")));
  // Before the first byte nothing is known of the time.
  snapshot_.loading->progress = {};
  snapshot_.loading->elapsed = absl::ZeroDuration();
  EXPECT_THAT(Page(),
              AllOf(HasSubstr("0 of 0 bytes"), Not(HasSubstr(" left")), Not(HasSubstr("nan"))));
}

TEST_F(StatusPageTest, OfSeveralSetsItSaysWhichIsLoadedAndHowMuchIsLeftOfAll) {
  snapshot_.state = LifeState::kLoading;  // one is loaded already
  snapshot_.loading =
      TableSetLoad{.directory = "/tables/second",
                   .progress = {.bytes_done = uint64_t{1} << 30, .bytes_total = uint64_t{4} << 30},
                   .since = {},
                   .elapsed = absl::Seconds(10)};
  snapshot_.start_loads = {.sets = 2,
                           .number = 2,
                           .bytes_before = uint64_t{4} << 30,
                           .bytes_total = uint64_t{10} << 30,
                           .since = {},
                           .elapsed = absl::Seconds(64)};
  EXPECT_THAT(Page(), AllOf(HasSubstr("<h2>Loading table set 2 of 2</h2>"),
                            HasSubstr("1.0 of 4.0 GiB (25 %)"), HasSubstr("all 2 table sets"),
                            HasSubstr("5.0 of 10.0 GiB (50 %)"),
                            HasSubstr("about <b>1 minute 4 seconds</b> left"),
                            HasSubstr("class=\"tag wait\">loaded")));
  EXPECT_EQ(snapshot_.WhyNotReady(), "LOADING set 2 of 2, /tables/second: 25 %, 50 % of all");
  snapshot_.start_loads.reset();
  EXPECT_EQ(snapshot_.WhyNotReady(), "LOADING /tables/second: 25 %");
}

TEST_F(StatusPageTest, ShowsWhoWasRefused) {
  EXPECT_THAT(Page(), ContainsRegex("id=\"refusals\".*none"));
  snapshot_.recent_refusals = {{.ago = absl::Seconds(12),
                                .count = 1234,
                                .way = "attach over grpc",
                                .peer = "ipv4:10.0.0.7",
                                .reason = "unknown_name",
                                .message = "table set <i>x</i> is not served here"}};
  const std::string page = Page();
  EXPECT_THAT(page, AllOf(HasSubstr("12 seconds ago"), HasSubstr("ipv4:10.0.0.7"),
                          HasSubstr("attach over grpc: unknown_name"), HasSubstr("1.23 k ×"),
                          HasSubstr("&lt;i&gt;x&lt;/i&gt;"), Not(HasSubstr("<i>x"))));
}

TEST_F(StatusPageTest, AFencedSetIsWhatTheEyeFallsOn) {
  snapshot_.table_sets[0].state = TableSetState::kFenced;
  EXPECT_THAT(Page(), AllOf(HasSubstr("class=\"card why\">"), HasSubstr("class=\"tag bad\">fenced"),
                            HasSubstr("class=\"state bad\">NOT READY<"),
                            HasSubstr("<title>engram-store-0: NOT READY")));
  snapshot_.table_sets[0].missed = false;  // its name leads to another
  EXPECT_THAT(Page(),
              AllOf(Not(HasSubstr("class=\"card why\">")), HasSubstr("class=\"tag bad\">fenced"),
                    HasSubstr("class=\"state good\">SERVING")));
}

TEST_F(StatusPageTest, DefaultsAreFoldedAwayAndNothingReloadsTheWholePage) {
  EXPECT_THAT(Page(), AllOf(HasSubstr("<span class=\"small dim flag\">flag --listen</span>"),
                            HasSubstr("<summary>1 setting has its default</summary>"),
                            HasSubstr("<noscript><meta http-equiv=\"refresh\""),
                            HasSubstr("<script src=\"statusz.js\" defer></script>")));
  EXPECT_THAT(std::string(StatusPageScript()), HasSubstr("replaceWith"));
}

}  // namespace
}  // namespace engram
