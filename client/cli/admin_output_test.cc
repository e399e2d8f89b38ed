#include "client/cli/admin_output.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

AdminTableSet Set(const std::string& name, char digit, const std::string& state) {
  AdminTableSet set;
  set.name = name;
  set.id = std::string(64, digit);
  set.state = state;
  set.resident_bytes = state == "fenced" ? 0 : 5'000'000'000;
  return set;
}

AdminList Of(std::vector<AdminTableSet> sets) {
  AdminList list;
  list.state = "SERVING";
  list.table_sets = std::move(sets);
  return list;
}

TEST(AdminOutput, AListSaysWhenNothingIsServed) {
  AdminTableSet old = Set("a", '1', "serving");
  old.age_s = 7500;
  old.idle_s = 180;
  old.holdings = 2;
  old.generation = 7;
  EXPECT_THAT(
      ListText(Of({old})),
      AllOf(HasSubstr("engramd is SERVING\n"), HasSubstr("111111111111  serving"),
            HasSubstr(
                "    4.7 GiB  for 2 h 5 min, held by 2 holdings, gRPC 3 min ago, generation 7\n"),
            Not(HasSubstr("fenced"))));
  EXPECT_THAT(ListText(Of({Set("", '2', "fenced")})),
              AllOf(HasSubstr("engramd is SERVING, and serves no table set\n"),
                    HasSubstr("table set 222222222222 is fenced: "),
                    HasSubstr("publish its directory again")));
  EXPECT_THAT(ListText(Of({})), HasSubstr("serves no table set"));
}

TEST(AdminOutput, OfAPartAListSaysWhichItIs) {
  AdminTableSet part = Set("a", '1', "serving");
  EXPECT_THAT(ListText(Of({part})), Not(HasSubstr("holds")));
  part.held = "columns 0..1\n, 8..9";
  part.held_bytes = uint64_t{1} << 30;
  part.table_bytes = uint64_t{4} << 30;
  EXPECT_THAT(ListText(Of({part})), HasSubstr("    holds columns 0..1\\n, 8..9, 1.0 of 4.0 GiB\n"));
  EXPECT_THAT(ListJson(Of({part})),
              AllOf(HasSubstr("\"held_bytes\": 1073741824"), HasSubstr("\"table_bytes\":")));
}

TEST(AdminOutput, AnEngramdsWordsAreLines) {
  AdminList list = Of({Set("a\nb\x1b[31m", '1', "serving")});
  list.state = "\x1b[2J";
  list.loading = AdminLoading{
      .directory = "/d\n\x1b[31m", .bytes_done = 1 << 30, .bytes_total = uint64_t{4} << 30};
  const std::string text = ListText(list);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  // Nor a C1 control or a mark that turns text around, in JSON as well.
  list.table_sets[0].name = "a\u009b2J\u202e";
  const std::string json_text = ListJson(list);
  for (const char byte : json_text) EXPECT_TRUE(byte == '\n' || (byte >= ' ' && byte < '\x7f'));
  EXPECT_EQ(nlohmann::json::parse(json_text)["table_sets"][0]["name"], "a\u009b2J\u202e");
  EXPECT_THAT(text, AllOf(HasSubstr("a\\nb\\x1b[31m"), HasSubstr("1.0 of 4.0 GiB")));
  EXPECT_EQ(PublishedText({"\x1b[31m", "i", 1, "", 0}, "/d").find('\x1b'), std::string::npos);
}

TEST(AdminOutput, AListSaysWhatHealsAFencedSet) {
  const AdminTableSet fenced = Set("a", '2', "fenced");
  const AdminTableSet other = Set("b", '1', "serving");
  EXPECT_THAT(ListText(Of({other, fenced})),
              AllOf(HasSubstr("publish its directory again or another set of its name"),
                    HasSubstr("NOT_SERVING until one of these is done")));
  EXPECT_THAT(ListText(Of({Set("a", '1', "serving"), fenced})),
              AllOf(HasSubstr("table set 222222222222 is fenced: "),
                    HasSubstr("its name leads to another set"), Not(HasSubstr("NOT_SERVING"))));
  // An older engramd does not say its name: as if it were missed.
  EXPECT_THAT(ListText(Of({other, Set("", '2', "fenced")})), HasSubstr("NOT_SERVING"));
}

// What engramd says counts: its health and its scrub go by the same.
TEST(AdminOutput, WhetherAFencedSetIsMissedIsEngramdsToSay) {
  AdminTableSet fenced = Set("a", '2', "fenced");
  fenced.missed = false;  // its name was taken from it, or the one that healed it is gone as well
  const AdminList healed = Of({Set("b", '1', "serving"), fenced});
  EXPECT_THAT(ListText(healed),
              AllOf(HasSubstr("or was taken from it"), Not(HasSubstr("NOT_SERVING"))));
  EXPECT_TRUE(CheckScrubbed(1, healed).ok());
  EXPECT_EQ(nlohmann::json::parse(ListJson(healed))["table_sets"][1]["missed"], false);
  fenced.missed = true;
  const AdminList waiting = Of({Set("a", '1', "serving"), fenced});
  EXPECT_THAT(ListText(waiting), HasSubstr("NOT_SERVING until one of these is done"));
  EXPECT_EQ(CheckScrubbed(1, waiting).status().code(), absl::StatusCode::kDataLoss);
}

TEST(AdminOutput, AListSaysWhetherEngramdIsReady) {
  AdminList list = Of({Set("b", '1', "serving"), Set("a", '2', "fenced")});
  list.ready = false;
  list.why_not_ready = "table set a is fenced";
  EXPECT_THAT(ListText(list), HasSubstr("engramd is NOT READY: a table set is fenced\n"));
  const auto json = nlohmann::json::parse(ListJson(list));
  EXPECT_EQ(json["state"], "SERVING");
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["why_not_ready"], "table set a is fenced");
  list.table_sets.pop_back();
  EXPECT_THAT(ListText(list), HasSubstr("engramd is NOT READY: table set a is fenced\n"));
  list.state = "DRAINING";
  EXPECT_THAT(ListText(list), HasSubstr("engramd is DRAINING\n"));
  list.state = "SERVING";
  list.ready = true;
  EXPECT_THAT(ListText(list), HasSubstr("engramd is SERVING\n"));
  EXPECT_EQ(nlohmann::json::parse(ListJson(list))["ready"], true);
  EXPECT_FALSE(nlohmann::json::parse(ListJson(list)).contains("why_not_ready"));
  // An older engramd does not say.
  EXPECT_FALSE(nlohmann::json::parse(ListJson(Of({}))).contains("ready"));
}

TEST(AdminOutput, NothingVerifiedIsNoScrub) {
  const auto nothing = CheckScrubbed(0, Of({Set("a", '2', "fenced")}));
  EXPECT_EQ(nothing.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(nothing.status().message()),
              AllOf(HasSubstr("nothing was verified"), HasSubstr("222222222222 is fenced")));
  EXPECT_EQ(CheckScrubbed(0, Of({})).status().code(), absl::StatusCode::kFailedPrecondition);
}

// As the scrub that found the damage ended: whoever scrubs once more is not told that all is well.
TEST(AdminOutput, AScrubFailsWhileAFencedSetIsMissed) {
  const AdminTableSet fenced = Set("a", '2', "fenced");
  const auto again = CheckScrubbed(3 << 20, Of({Set("b", '1', "serving"), fenced}));
  EXPECT_EQ(again.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(again.status().message()),
              AllOf(HasSubstr("table set 222222222222 is fenced: "),
                    HasSubstr("of the others 3.0 MiB held every checksum")));
  const auto some = CheckScrubbed(3 << 20, Of({Set("a", '1', "serving"), fenced}));
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_THAT(ScrubbedText(*some), AllOf(HasSubstr("3.0 MiB in memory, every checksum held"),
                                         HasSubstr("not verified: table set 222222222222")));
  const auto json = nlohmann::json::parse(ScrubbedJson(*some));
  EXPECT_EQ(json["bytes"], 3 << 20);
  EXPECT_EQ(json["fenced"], nlohmann::json::array({std::string(64, '2')}));
}

TEST(AdminOutput, ScriptsGetGenerationsAndLeases) {
  AdminTableSet served = Set("a", '1', "serving");
  served.generation = 0;
  served.holdings = 3;
  const auto sets =
      nlohmann::json::parse(ListJson(Of({served, Set("b", '2', "retired")})))["table_sets"];
  EXPECT_EQ(sets[0]["generation"], 0);
  EXPECT_EQ(sets[0]["leases"]["holdings"], 3);
  EXPECT_FALSE(sets[1].contains("generation"));
}

TEST(AdminOutput, ScriptsGetIds) {
  const auto published = nlohmann::json::parse(PublishedJson(
      {.name = "a", .id = std::string(64, '1'), .bytes = 7, .warning = "w", .generation = 4},
      "/d"));
  EXPECT_EQ(published["generation"], 4);
  EXPECT_EQ(published["id"], std::string(64, '1'));
  EXPECT_EQ(published["directory"], "/d");
  EXPECT_EQ(published["warning"], "w");
  const auto retired = nlohmann::json::parse(
      RetiredJson({.name = "a", .id = std::string(64, '1'), .grace_s = 9}, "a"));
  EXPECT_EQ(retired["id"], std::string(64, '1'));
  EXPECT_EQ(retired["grace_s"], 9);
  // An engramd that is older and does not say.
  EXPECT_FALSE(nlohmann::json::parse(RetiredJson({}, "a")).contains("id"));
  const AdminRetired fenced{.name = "a", .id = std::string(64, '1'), .was_fenced = true};
  EXPECT_THAT(RetiredText(fenced, "a"), HasSubstr(" was fenced and is gone"));
  EXPECT_EQ(nlohmann::json::parse(RetiredJson(fenced, "a"))["was_fenced"], true);
  EXPECT_FALSE(retired.contains("was_fenced"));
}

}  // namespace
}  // namespace engram::cli
