// What operators publish is served after a restart, until they take the name or say otherwise.
#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class KeptPublicationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PackSmallSet("qwen4-exp", 500, scratch_ / "a");
    PackSmallSet("qwen4-exp", 700, scratch_ / "b");
    PackSmallSet("longcat-flash-lite", 300, scratch_ / "other");
  }
  std::vector<std::string> Flags(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> flags = {
        "--table-set", scratch_ / "a",        "--listen",
        "127.0.0.1:0", "--admin-grpc-listen", "unix:" + (scratch_ / "admin"),
        "--state-dir", scratch_ / "state"};
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }
  std::string Ask(const std::string& words) const {
    const Outcome outcome =
        RunShell(absl::StrCat("$ENGRAM admin ", words, " --admin unix:", scratch_ / "admin"));
    EXPECT_EQ(outcome.exit_code, 0) << words << outcome.err;
    return outcome.out + outcome.err;
  }
  std::string IdOf(const std::string& set) const {
    return ReadFile(scratch_ / (set + "/manifest.sha256")).substr(0, 12);
  }
  static void End(EngramdProcess& engramd) {
    engramd.Signal(SIGTERM);
    EXPECT_EQ(engramd.WaitForEnd(), 0);
  }

  ScratchDirectory scratch_;
};

TEST_F(KeptPublicationsTest, ARestartServesThemInPlaceOfTheFlags) {
  {
    EngramdProcess engramd(Flags());
    engramd.WaitUntilServing();
    Ask("publish " + (scratch_ / "b"));
    EXPECT_THAT(Ask("publish " + (scratch_ / "b")), HasSubstr("is served already"));
    Ask("publish " + (scratch_ / "other"));
    EXPECT_TRUE(engramd.WaitForLine("as generation 1 of its name"));
    End(engramd);
  }
  {
    EngramdProcess engramd(Flags({"--ignore-recorded"}));
    engramd.WaitUntilServing();
    EXPECT_THAT(Ask("list"), AllOf(HasSubstr(IdOf("a")), Not(HasSubstr(IdOf("b")))));
    End(engramd);
  }
  {
    EngramdProcess engramd(Flags());
    engramd.WaitUntilServing();
    EXPECT_TRUE(engramd.WaitForLine("as it was published (generation 1), in place of "));
    EXPECT_THAT(Ask("list"),
                AllOf(HasSubstr(IdOf("b")), HasSubstr(IdOf("other")), Not(HasSubstr(IdOf("a")))));
    Ask("retire longcat-flash-lite");
    End(engramd);
  }
  std::filesystem::remove_all(scratch_ / "b");
  EngramdProcess gone(Flags());
  EXPECT_EQ(gone.WaitForEnd(), 1);
  EXPECT_THAT(gone.Log(), AllOf(HasSubstr(scratch_ / "b"), HasSubstr("--ignore-recorded")));
  EngramdProcess engramd(Flags({"--ignore-recorded"}));
  engramd.WaitUntilServing();
}

}  // namespace
}  // namespace engram::integration
