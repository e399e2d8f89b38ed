#include "server/base/log.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

std::string Said(bool json, const std::string& level, const std::string& message) {
  ::testing::internal::CaptureStderr();
  const auto log = MakeLog(json, level);
  log->debug("quiet");
  log->warn("{}", message);
  return ::testing::internal::GetCapturedStderr();
}

TEST(MakeLog, TextHasTimeLevelAndMessage) {
  EXPECT_THAT(Said(false, "info", "hello"),
              MatchesRegex("[-0-9]+T[0-9:.]+[+-][0-9:]+ warning hello\n"));
}

TEST(MakeLog, JsonIsAnObjectALineWhateverTheMessageHolds) {
  const std::string wild = "a \"b\"\n\\ \x01 \xff";
  const std::string said = Said(true, "info", wild);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
  const nlohmann::json line = nlohmann::json::parse(said);
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["message"], "a \"b\"\n\\ \x01 \xef\xbf\xbd");
  EXPECT_EQ(line["event"], "message");
  EXPECT_THAT(std::string(line["time"]), HasSubstr("T"));
}

TEST(MakeLog, TextIsALineWhateverTheMessageHolds) {
  EXPECT_THAT(Said(false, "info", "loading a\nb\x1b[31m\\c \xc3\xa9"),
              HasSubstr(" warning loading a\\nb\\x1b[31m\\c \xc3\xa9\n"));
}

std::string Told(bool json, const std::string& level) {
  ::testing::internal::CaptureStderr();
  LogEvent(*MakeLog(json, level), spdlog::level::info, "published",
           {{"table_set_id", "a\"\xff"}, {"bytes", uint64_t{1} << 40}, {"seconds", 0.5}},
           "published it");
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogEvent, JsonHasTheEventAndItsFieldsWithTheirTypes) {
  const nlohmann::json line = nlohmann::json::parse(Told(true, "info"));
  EXPECT_EQ(line["message"], "published it");
  EXPECT_EQ(line["level"], "info");
  EXPECT_EQ(line["event"], "published");
  EXPECT_EQ(line["table_set_id"], "a\"\xef\xbf\xbd");
  EXPECT_EQ(line["bytes"].get<uint64_t>(), uint64_t{1} << 40);
  EXPECT_EQ(line["seconds"].get<double>(), 0.5);
}

TEST(LogEvent, TextHasTheMessageAlone) {
  EXPECT_THAT(Told(false, "info"), MatchesRegex("[-0-9]+T[0-9:.]+[+-][0-9:]+ info published it\n"));
  EXPECT_EQ(Told(false, "warn"), "");
}

TEST(MakeLog, SaysWhatItsLevelLets) {
  EXPECT_THAT(Said(false, "debug", "x"), HasSubstr("debug quiet"));
  EXPECT_EQ(Said(false, "error", "x"), "");
}

}  // namespace
}  // namespace engram
