// What every program says of itself: help that fits a page, versions, what was meant.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/integration/programs.h"
#include "tests/integration/small_sets.h"

namespace engram::integration {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

constexpr size_t kColumns = 100;

const std::vector<std::string>& Programs() {
  static const auto* const kPrograms =
      new std::vector<std::string>{"$ENGRAM", "server/engramd", "gpu/simulator/engram_worker"};
  return *kPrograms;
}

// The names of the commands in a program's help.
std::vector<std::string> CommandsOf(const std::string& help) {
  std::vector<std::string> commands;
  bool in_commands = false;
  for (const absl::string_view line : absl::StrSplit(help, '\n')) {
    if (line == "Commands:") {
      in_commands = true;
    } else if (line.empty()) {
      in_commands = false;
    } else if (in_commands && line[2] != ' ') {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      commands.push_back(words[0]);
    }
  }
  return commands;
}

// Of the command, and of those below it.
void ExpectGoodHelp(const std::string& command) {
  const Outcome outcome = RunShell(command + " --help");
  ASSERT_EQ(outcome.exit_code, 0) << command << outcome.err;
  for (const absl::string_view line : absl::StrSplit(outcome.out, '\n')) {
    EXPECT_LE(line.size(), kColumns) << command << ": " << line;
  }
  // CLI11's own words for types and ranges.
  for (const char* word : {"TEXT", "UINT", "FLOAT", " in ["}) {
    EXPECT_THAT(outcome.out, Not(HasSubstr(word))) << command;
  }
  EXPECT_THAT(outcome.out, HasSubstr("Usage: "));
  for (const std::string& below : CommandsOf(outcome.out)) {
    ExpectGoodHelp(absl::StrCat(command, " ", below));
  }
}

TEST(Help, FitsItsColumnsInWords) {
  for (const std::string& program : Programs()) ExpectGoodHelp(program);
}

TEST(Help, IsACommandToo) {
  for (const std::string words : {"", "verify", "admin publish"}) {
    EXPECT_EQ(RunShell("$ENGRAM help " + words).out, RunShell("$ENGRAM " + words + " --help").out)
        << words;
  }
  EXPECT_EQ(RunShell("$ENGRAM version").out, absl::StrCat("engram ", SdkVersion(), "\n"));
  const Outcome none = RunShell("$ENGRAM help verfiy");
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("did you mean verify?"));
}

TEST(Help, HasHeadingsForManyFlags) {
  EXPECT_THAT(RunShell("$ENGRAM lookup --help").out,
              AllOf(HasSubstr("\nTarget:\n"), HasSubstr("\nSecurity:\n"),
                    HasSubstr("\nToken ids:\n"), HasSubstr("$ENGRAM_TARGET")));
  EXPECT_THAT(RunShell("$ENGRAM pack --help").out, HasSubstr("--rows-per-head N"));
}

TEST(Versions, AreOfEveryProgram) {
  for (const std::string& program : Programs()) {
    const Outcome outcome = RunShell(program + " --version");
    EXPECT_EQ(outcome.exit_code, 0) << program;
    EXPECT_THAT(outcome.out, MatchesRegex("engram[a-z_]* [0-9.]+\n"));
  }
}

TEST(Texts, AreManualPagesAndCompletion) {
  for (const std::string& program : Programs()) {
    EXPECT_THAT(RunShell(program + " --man-page").out, StartsWith(".TH ENGRAM"));
    const Outcome taken = RunShell(program + " --bash-completion | bash -n");
    EXPECT_EQ(taken.exit_code, 0) << program << taken.err;
  }
  // As bash completes it.
  const std::string ask =
      "source <($ENGRAM --bash-completion); complete_it() { COMP_WORDS=(\"$@\"); "
      "COMP_CWORD=$(($# - 1)); _engram; echo \"${COMPREPLY[@]}\"; }; complete_it engram ";
  EXPECT_EQ(RunShell(ask + "ver").out, "verify version\n");
  EXPECT_EQ(RunShell(ask + "admin pub").out, "publish\n");
  EXPECT_EQ(RunShell(ask + "verify --thr").out, "--threads\n");
  EXPECT_EQ(RunShell(ask + "lookup --token-ids-type ''").out, "int32 int64\n");
  EXPECT_EQ(RunShell(ask + "lookup --token-ids-type = int6").out, "int64\n");
  EXPECT_EQ(RunShell(ask + "lookup --token-ids-type =").out, "int32 int64\n");
  EXPECT_EQ(RunShell(ask + "pack --family longcat").out, "longcat-flash-lite\n");
  EXPECT_EQ(RunShell(ask + "bench --target gr").out, "grpc:\n");
  EXPECT_EQ(RunShell(ask + "help ver").out, "verify version\n");
  EXPECT_EQ(RunShell(ask + "help admin ''").out, "publish retire list scrub\n");
  EXPECT_EQ(RunShell(ask + "help admin publish ''").out, "\n");
  EXPECT_EQ(RunShell(ask + "help pack ''").out, "\n");
  // Numbers are nobody's to offer, and files are bash's own.
  EXPECT_EQ(RunShell(ask + "bench --clients ''").out, "\n");
  EXPECT_EQ(RunShell(ask + "lookup --tls-ca ''").out, "\n");
  const ScratchDirectory scratch;
  std::filesystem::create_directory(scratch / "a set");
  WriteFile(scratch / "a file", "");
  EXPECT_EQ(RunShell(ask + "verify '" + (scratch / "a") + "'").out, (scratch / "a set") + "\n");
  EXPECT_EQ(RunShell(ask + "pack --output '" + (scratch / "a") + "'").out,
            (scratch / "a set") + "\n");
  const std::string served =
      "source <(server/engramd --bash-completion); COMP_WORDS=(engramd --numa ''); COMP_CWORD=2; "
      "_engramd; echo \"${COMPREPLY[@]}\"";
  EXPECT_EQ(RunShell(served).out, "local interleave bind:\n");
}

TEST(Slips, AreNamedWithWhatWasMeant) {
  const auto err = [](const std::string& line) {
    const Outcome outcome = RunShell(line);
    EXPECT_EQ(outcome.exit_code, 2) << line;
    return outcome.err;
  };
  EXPECT_THAT(err("$ENGRAM bogus"),
              AllOf(HasSubstr("no command \"bogus\""), HasSubstr("Try: engram --help\n")));
  EXPECT_THAT(err("$ENGRAM pakc --family x"), HasSubstr("did you mean pack?"));
  EXPECT_THAT(err("$ENGRAM verify --thraeds 3 /set"),
              AllOf(HasSubstr("engram verify has no flag --thraeds: did you mean --threads?"),
                    HasSubstr("Try: engram verify --help\n")));
  EXPECT_THAT(err("$ENGRAM admin lits"),
              AllOf(HasSubstr("did you mean list?"), HasSubstr("Try: engram admin --help\n")));
  EXPECT_THAT(err("server/engramd --table-sets /t"), HasSubstr("did you mean --table-set?"));
  EXPECT_THAT(err("gpu/simulator/engram_worker simulate --secnods 3"),
              AllOf(HasSubstr("did you mean --seconds?"),
                    HasSubstr("Try: engram_worker simulate --help\n")));
}

}  // namespace
}  // namespace engram::integration
