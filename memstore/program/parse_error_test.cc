#include "memstore/program/parse_error.h"

#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace engram {
namespace {

using ::testing::HasSubstr;

struct Said {
  std::string why, help;
};

Said Parse(std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());
  CLI::App app{"text", "tool"};
  app.require_subcommand(1);
  std::string output, directory;
  int threads = 0;
  CLI::App* const verify = app.add_subcommand("verify", "text");
  verify->add_option("directory", directory, "text")->required();
  verify->add_option("--threads", threads, "text")->check(CLI::Range(1, 4));
  verify->add_option("--output", output, "text")->required();
  CLI::App* const admin = app.add_subcommand("admin", "text");
  admin->require_subcommand(1);
  admin->add_subcommand("list", "text");
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return {ExplainParseError(app, error), HelpFor(app)};
  }
  return {};
}

TEST(ExplainParseError, NamesTheCommandThatThereIsNot) {
  EXPECT_EQ(Parse({"verfiy", "x"}).why, "tool has no command \"verfiy\": did you mean verify?");
  EXPECT_EQ(Parse({"bogus"}).why, "tool has no command \"bogus\"");
  EXPECT_EQ(Parse({"bogus"}).help, "tool --help");
  EXPECT_EQ(Parse({"bogus", "--output", "x"}).why, "tool has no command \"bogus\"");
  EXPECT_EQ(Parse({}).why, "tool needs a command");
  EXPECT_EQ(Parse({"admin", "lits"}).why, "tool admin has no command \"lits\": did you mean list?");
  EXPECT_EQ(Parse({"admin"}).help, "tool admin --help");
  EXPECT_EQ(Parse({"\x1b[31m"}).why, "tool has no command \"\\x1b[31m\"");
}

// Before what is missing because of it.
TEST(ExplainParseError, NamesTheFlagThatThereIsNot) {
  const Said said = Parse({"verify", "--outptu=x", "set"});
  EXPECT_EQ(said.why, "tool verify has no flag --outptu: did you mean --output?");
  EXPECT_EQ(said.help, "tool verify --help");
  EXPECT_EQ(Parse({"verify", "--output", "x", "set", "--colour"}).why,
            "tool verify has no flag --colour");
  EXPECT_EQ(Parse({"--output", "x", "verify", "set"}).why, "there is no flag --output");
}

TEST(ExplainParseError, SaysTheRestInCli11sWords) {
  EXPECT_THAT(Parse({"verify", "set"}).why, HasSubstr("--output is required"));
  EXPECT_THAT(Parse({"verify", "--output", "x"}).why, HasSubstr("directory is required"));
  EXPECT_THAT(Parse({"verify", "set", "--output", "x", "--threads", "9"}).why,
              HasSubstr("--threads: Value 9 not in range"));
  EXPECT_THAT(Parse({"verify", "set", "more", "--output", "x"}).why, HasSubstr("more"));
}

}  // namespace
}  // namespace engram
