#include "memstore/program/help_format.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/program/bash_completion.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/man_page.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// A program of two commands, one of which has one below it.
class ProgramTextsTest : public ::testing::Test {
 protected:
  ProgramTextsTest() {
    UseProgramTexts(app_, "1.2.3", "1");
    app_.require_subcommand(1);
    CLI::App* const pack = app_.add_subcommand(
        "pack", "Pack rows. At length:\n  tool pack --kind a    (aligned)\n.hidden request");
    pack->add_option("directory", directory_, "what is packed")->required();
    pack->add_option("--kind", kind_, "of the rows")->check(CLI::IsMember({"a", "b"}));
    pack->add_option("--threads", threads_, "readers")->check(CLI::Range(1u, 64u));
    pack->add_option("--sizes", sizes_, "one or several")->delimiter(',')->group("Sizes");
    pack->add_option("--output", output_, "where to")->required()->type_name("DIR");
    pack->add_option("--listen", listen_,
                     std::string(200, 'x') + " " + std::string(60, 'y') +
                         " words that go on and on until the line is full")
        ->type_name("HOST:PORT");
    CLI::Option* const seconds = pack->add_option("--seconds", seconds_, "a time");
    pack->add_option("--rounds", rounds_, "a count, 0 to 9")
        ->check(CLI::Range(0, 9))
        ->excludes(seconds);
    pack->add_flag("--json", json_, "as JSON");
    app_.add_subcommand("admin", "Administer.")->add_subcommand("list", "List them.");
  }
  // What it prints with these arguments.
  std::string Texts(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());
    try {
      app_.parse(arguments);
    } catch (const CLI::Success& e) {
      std::ostringstream text;
      app_.exit(e, text, text);
      return text.str();
    }
    return "";
  }
  const CLI::Option& Flag(const std::string& name) {
    return *app_.get_subcommand("pack")->get_option(name);
  }

  CLI::App app_{"tool: packs and administers.\nExit codes: 0 done.", "tool"};
  std::string directory_, kind_, output_, listen_;
  uint32_t threads_ = 0;
  std::vector<int> sizes_;
  double seconds_ = 0;
  int rounds_ = 0;
  bool json_ = false;
};

TEST_F(ProgramTextsTest, PlaceholdersAreWords) {
  EXPECT_EQ(Placeholder(Flag("--kind")), "a|b");
  EXPECT_EQ(Placeholder(Flag("--threads")), "N");
  EXPECT_EQ(Placeholder(Flag("--sizes")), "N,...");
  EXPECT_EQ(Placeholder(Flag("--output")), "DIR");
  EXPECT_EQ(Placeholder(Flag("--listen")), "HOST:PORT");
  EXPECT_EQ(Placeholder(Flag("--json")), "");
  EXPECT_EQ(FlagText(Flag("--threads")), "readers [1 to 64]");
  EXPECT_EQ(FlagText(Flag("--output")), "where to [required]");
  EXPECT_EQ(FlagText(Flag("--rounds")), "a count, 0 to 9 [not with --seconds]");
  EXPECT_THAT(Choices(Flag("--kind")), ElementsAre("a", "b"));
  EXPECT_THAT(Choices(Flag("--threads")), IsEmpty());
}

TEST_F(ProgramTextsTest, HelpFitsItsColumnsAndHasGroups) {
  const std::string help = Texts({"pack", "--help"});
  for (const absl::string_view line : absl::StrSplit(help, '\n')) {
    // A word that is longer than a line is not cut.
    if (line.find("xxx") == absl::string_view::npos) {
      EXPECT_LE(line.size(), kHelpColumns) << line;
    }
  }
  EXPECT_THAT(help, AllOf(HasSubstr("Usage: tool pack [OPTIONS] DIRECTORY\n"),
                          HasSubstr("\nArguments:\n  DIRECTORY "), HasSubstr("\nSizes:\n  --sizes"),
                          HasSubstr("  tool pack --kind a    (aligned)\n"),
                          HasSubstr("  --output DIR                where to [required]\n"),
                          Not(HasSubstr("man-page")), Not(HasSubstr("TEXT"))));
  // What every program has is last.
  EXPECT_GT(help.find("\nOptions:\n"), help.find("\nSizes:\n"));
  const std::string all = Texts({"--help"});
  EXPECT_THAT(all, AllOf(HasSubstr("Usage: tool [OPTIONS] COMMAND\n"),
                         HasSubstr("\nCommands:\n  pack                        Pack rows\n"),
                         HasSubstr("--version")));
}

TEST_F(ProgramTextsTest, TextsArePrintedWithoutACommand) {
  EXPECT_EQ(Texts({"--version"}), "tool 1.2.3\n");
  EXPECT_THAT(Texts({"--man-page"}), StartsWith(".TH TOOL 1 \"\" \"tool 1.2.3\"\n"));
  EXPECT_THAT(Texts({"--bash-completion"}), EndsWith("complete -o default -F _tool tool\n"));
}

TEST_F(ProgramTextsTest, AManualPageHasEveryCommandAndFlag) {
  const std::string page = ManPage(app_, "1.2.3", "1");
  EXPECT_THAT(page,
              AllOf(HasSubstr(".SH NAME\ntool \\- packs and administers\n"),
                    HasSubstr(".SS tool pack [OPTIONS] DIRECTORY\n"),
                    HasSubstr(".TP\n\\fB\\-\\-output\\fR \\fIDIR\\fR\nwhere to [required]\n"),
                    HasSubstr(".nf\n  tool pack \\-\\-kind a    (aligned)\n.fi\n"),
                    HasSubstr("\\&.hidden request\n"), HasSubstr(".SS tool admin list [OPTIONS]")));
}

TEST_F(ProgramTextsTest, CompletionKnowsCommandsFlagsAndValues) {
  const std::string text = BashCompletion(app_);
  EXPECT_THAT(
      text,
      AllOf(
          HasSubstr("\" pack\" | \" admin\" | \" admin list\") path+="),
          HasSubstr("\" pack --kind\") COMPREPLY=($(compgen -W \"a b\" -- \"$word\")); return ;;"),
          HasSubstr("\" pack --output\") COMPREPLY=($(compgen -d -- \"$word\")); return ;;"),
          HasSubstr("\"\") words=\"pack admin --help --version\" ;;"),
          Not(HasSubstr("\" pack --json\")"))));
}

TEST(Wrapped, KeepsLinesAndIndents) {
  EXPECT_EQ(Wrapped("one two", 0, 0), "one two");
  const std::string text = Wrapped(std::string(60, 'a') + " " + std::string(60, 'b') + "\nc", 0, 4);
  EXPECT_EQ(text, std::string(60, 'a') + "\n    " + std::string(60, 'b') + "\n    c");
}

}  // namespace
}  // namespace engram
