#include "memstore/program/help_format.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "memstore/program/bash_completion.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/man_page.h"

namespace engram {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const ProgramTexts kTexts = {
    .version = "1.2.3",
    .section = "1",
    .exit_codes = {{"0", "done"}, {"2", "bad usage"}},
    .environment = {{"TOOL_KIND", "as --kind"}},
    .examples = {{"tool pack --kind a x\ntool admin list", "Pack, and see:"}},
    .see_also = {"toold(8)", "/doc/README.md"}};

// A program of two commands, one of which has one below it.
class ProgramTextsTest : public ::testing::Test {
 protected:
  ProgramTextsTest() {
    UseProgramTexts(app_, kTexts);
    app_.require_subcommand(1);
    CLI::App* const pack = app_.add_subcommand(
        "pack", "Pack rows. At length:\n  tool pack --kind a    (aligned)\n.hidden request");
    pack->add_option("directory", directory_, "what is packed")->required()->type_name("DIR");
    pack->add_option("--target", target_, "where")
        ->check(Suggest({"grpc:", "a-value-that-is-as-long-as-the-widest-of-placeholders"}));
    pack->add_option("--key", key_, "a file")->type_name("FILE");
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
  std::string directory_, kind_, output_, listen_, target_, key_;
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
  // What is suggested is in no text, and refuses nothing.
  EXPECT_EQ(Placeholder(Flag("--target")), "VALUE");
  EXPECT_EQ(FlagText(Flag("--target")), "where");
  EXPECT_THAT(Choices(Flag("--target")), Contains("grpc:"));
  EXPECT_EQ(Texts({"pack", "--target", "other", "--output", "x", "y"}), "");
  EXPECT_EQ(target_, "other");
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
                         HasSubstr("--version"),
                         HasSubstr("\nEnvironment:\n  TOOL_KIND                   as --kind\n"),
                         HasSubstr("\nExit codes:\n  0                           done\n")));
  EXPECT_THAT(help, Not(HasSubstr("Exit codes:")));
}

TEST_F(ProgramTextsTest, TextsArePrintedWithoutACommand) {
  EXPECT_EQ(Texts({"--version"}), "tool 1.2.3\n");
  EXPECT_THAT(Texts({"--man-page"}), StartsWith(".TH TOOL 1 \"\" \"tool 1.2.3\"\n"));
  EXPECT_THAT(Texts({"--bash-completion"}), EndsWith("complete -o default -F _tool tool\n"));
}

TEST_F(ProgramTextsTest, AManualPageHasEveryCommandAndFlag) {
  const std::string page = ManPage(app_, kTexts);
  EXPECT_THAT(page,
              AllOf(HasSubstr(".SH NAME\ntool \\- packs and administers\n"),
                    HasSubstr(".SS tool pack [OPTIONS] DIRECTORY\n"),
                    HasSubstr(".TP\n\\fB\\-\\-output\\fR \\fIDIR\\fR\nwhere to [required]\n"),
                    HasSubstr(".nf\n  tool pack \\-\\-kind a    (aligned)\n.fi\n"),
                    HasSubstr("\\&.hidden request\n"), HasSubstr(".SS tool admin list [OPTIONS]"),
                    HasSubstr(".PP\n\\fISizes:\\fR\n.TP\n\\fB\\-\\-sizes")));
}

TEST_F(ProgramTextsTest, AManualPageHasTheSectionsThatPagesHave) {
  const std::string page = ManPage(app_, kTexts);
  // Flags are not hyphenated where a line ends.
  EXPECT_THAT(page, StartsWith(".TH TOOL 1 \"\" \"tool 1.2.3\"\n.nh\n"));
  EXPECT_THAT(page,
              AllOf(HasSubstr(".SH SYNOPSIS\n\\fBtool pack [OPTIONS] DIRECTORY\\fR\n.br\n"
                              "\\fBtool admin list [OPTIONS]\\fR\n"),
                    HasSubstr(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ndone\n.TP\n\\fB2\\fR\n"),
                    HasSubstr(".SH ENVIRONMENT\n.TP\n\\fBTOOL_KIND\\fR\nas \\-\\-kind\n"),
                    HasSubstr(".SH EXAMPLES\n.PP\nPack, and see:\n.RS\n.nf\ntool pack "
                              "\\-\\-kind a x\ntool admin list\n.fi\n.RE\n"),
                    HasSubstr(".SH \"SEE ALSO\"\n\\fBtoold\\fR(8),\n\\fB/doc/README.md\\fR")));
  size_t at = 0;
  for (const char* heading : {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS",
                              "\"EXIT STATUS\"", "ENVIRONMENT", "EXAMPLES", "\"SEE ALSO\""}) {
    const size_t found = page.find(absl::StrCat(".SH ", heading, "\n"));
    ASSERT_NE(found, std::string::npos) << heading;
    EXPECT_GT(found, at) << heading;
    at = found;
  }
  // A program that says nothing of these has no empty sections.
  EXPECT_THAT(ManPage(app_, {.version = "1", .section = "1"}),
              AllOf(Not(HasSubstr("EXIT STATUS")), Not(HasSubstr("SEE ALSO"))));
}

TEST_F(ProgramTextsTest, CompletionKnowsCommandsFlagsAndValues) {
  const std::string text = BashCompletion(app_);
  EXPECT_THAT(text, AllOf(HasSubstr("\" pack\" | \" admin\" | \" admin list\") path+="),
                          HasSubstr("\" pack --kind\") kind=values values=\"a b\" ;;"),
                          HasSubstr("\" pack --target\") kind=values values=\"grpc: a-value-that-"),
                          HasSubstr("\" pack --output\") kind=directories ;;"),
                          HasSubstr("\" pack --key\") kind=files ;;"),
                          HasSubstr("\" pack --threads\") kind=nothing ;;"),
                          HasSubstr("    \" pack\") kind=directories ;;"),
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
