#include "server/base/log.h"

#include <algorithm>
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
  EXPECT_THAT(std::string(line["time"]), HasSubstr("T"));
}

TEST(MakeLog, SaysWhatItsLevelLets) {
  EXPECT_THAT(Said(false, "debug", "x"), HasSubstr("debug quiet"));
  EXPECT_EQ(Said(false, "error", "x"), "");
}

}  // namespace
}  // namespace engram
