// What the commands make of the files and targets that they are given: ids of another type, text,
// several sequences, places where nobody answers.
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::HasSubstr;

constexpr size_t kTokens = 300;

class TokenFilesTest : public ::testing::Test {
 protected:
  TokenFilesTest() {
    PackSmallSet("deepseek-v4.1-flash", 500, Path("v41"));
    const std::vector<int32_t> ids = RealTokenIds(kTokens);
    const std::vector<int64_t> wide(ids.begin(), ids.end());
    WriteFile(Path("ids"), {reinterpret_cast<const char*>(ids.data()), ids.size() * 4});
    WriteFile(Path("wide"), {reinterpret_cast<const char*>(wide.data()), wide.size() * 8});
  }
  std::string Path(const std::string& name) const { return scratch_ / name; }
  Outcome Lookup(const std::string& flags) const {
    return RunShell("$ENGRAM lookup --target embedded:" + Path("v41") + " " + flags);
  }
  std::string Rows() const {
    const Outcome outcome = Lookup("--output - --token-ids " + Path("ids"));
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.out;
  }

  const ScratchDirectory scratch_;
};

// Every command that reads them, from a file and from standard input.
TEST_F(TokenFilesTest, WhatIsNoTokenIdsIsRefusedWithItsCure) {
  WriteFile(Path("text"), "[5, 6, 7, 8]");
  for (const std::string& command :
       {"lookup --output " + Path("out") + " --target embedded:" + Path("v41"),
        "bench --rounds 1 --target embedded:" + Path("v41"),
        "address --output " + Path("out") + " --table-set " + Path("v41")}) {
    for (const bool from_file : {true, false}) {
      const auto run = [&](const std::string& file, const std::string& flags) {
        return RunShell(absl::StrCat("$ENGRAM ", command, flags, " --token-ids ",
                                     from_file ? Path(file) : "- < " + Path(file)));
      };
      const Outcome refused = run("wide", "");
      EXPECT_EQ(refused.exit_code, 1) << command;
      EXPECT_THAT(refused.err, HasSubstr("--token-ids-type int64"));
      const Outcome text = run("text", "");
      EXPECT_EQ(text.exit_code, 1) << command;
      EXPECT_THAT(text.err, HasSubstr("is JSON"));
      EXPECT_FALSE(std::filesystem::exists(Path("out")));
      const Outcome taken = run("wide", " --token-ids-type int64");
      EXPECT_EQ(taken.exit_code, 0) << taken.err;
      std::filesystem::remove(Path("out"));
    }
  }
  const Outcome same = Lookup("--token-ids-type int64 --output - --token-ids " + Path("wide"));
  EXPECT_TRUE(same.out == Rows());
}

TEST_F(TokenFilesTest, SequencesOfOneFileAreLookedUpApart) {
  const std::string rows = Rows();
  WriteFile(Path("twice"), ReadFile(Path("ids")) + ReadFile(Path("ids")));
  WriteFile(Path("lengths"), absl::StrCat(kTokens, "\n", kTokens, "\n"));
  const std::string twice = "--output - --token-ids " + Path("twice");
  const std::string lengths = " --sequence-tokens " + Path("lengths");
  for (const std::string batch : {"", " --batch-tokens 1", " --batch-tokens 64"}) {
    const Outcome outcome = Lookup(twice + lengths + batch);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_TRUE(outcome.out == rows + rows) << batch;
  }
  EXPECT_FALSE(Lookup(twice).out == rows + rows);
  const Outcome fewer = Lookup("--output " + Path("out") + " --token-ids " + Path("ids") + lengths);
  EXPECT_EQ(fewer.exit_code, 1);
  EXPECT_THAT(fewer.err, HasSubstr(Path("lengths")));
  EXPECT_FALSE(std::filesystem::exists(Path("out")));
}

TEST_F(TokenFilesTest, ATargetThatNobodyAnswersHasItsReason) {
  const std::string rest = " --token-ids " + Path("ids") + " --output " + Path("out");
  for (const auto& [target, what] : {std::pair{"grpc:127.0.0.1:1", "the connection is refused"},
                                     {"auto:127.0.0.1:1", "the connection is refused"},
                                     {"grpc:no-such-host.invalid:7300", "is not known here"},
                                     {"grpc:unix:/nobody/s", "there is no such socket"}}) {
    const Outcome nobody =
        RunShell(absl::StrCat("$ENGRAM lookup --attach-timeout 1s --target ", target, rest));
    EXPECT_EQ(nobody.exit_code, 1) << target;
    EXPECT_THAT(nobody.err, HasSubstr(what)) << target;
  }
  for (const std::string target : {"grpc://127.0.0.1:7300", "'grpc: 127.0.0.1:7300'"}) {
    const Outcome url = RunShell("$ENGRAM lookup --target " + target + rest);
    EXPECT_EQ(url.exit_code, 2) << target;
    EXPECT_THAT(url.err, HasSubstr("did you mean grpc:127.0.0.1:7300?"));
  }
}

}  // namespace
}  // namespace engram::integration
