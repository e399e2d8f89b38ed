#include "memstore/program/help_format.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "memstore/program/bash_completion.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/man_page.h"

namespace engram {
namespace {

// Where texts begin beside the names of flags and commands.
constexpr size_t kTextColumn = 30;

// "  NAME   TEXT", the text below where the name is long.
std::string Entry(const std::string& name, const std::string& text) {
  std::string line = absl::StrCat("  ", name);
  if (text.empty()) return line + "\n";
  if (line.size() + 2 > kTextColumn) {
    absl::StrAppend(&line, "\n", std::string(kTextColumn, ' '));
  } else {
    line.resize(kTextColumn, ' ');
  }
  return absl::StrCat(line, Wrapped(text, kTextColumn, kTextColumn), "\n");
}

std::string FlagEntry(const CLI::Option& option) {
  const std::string value = option.nonpositional() ? Placeholder(option) : "";
  return Entry(absl::StrCat(FlagNames(option), value.empty() ? "" : " ", value), FlagText(option));
}

// A heading and its lines; nothing where there are none.
std::string Section(absl::string_view heading, const std::vector<ProgramTexts::Entry>& entries) {
  if (entries.empty()) return "";
  std::string out = absl::StrCat("\n", heading, ":\n");
  for (const ProgramTexts::Entry& entry : entries) {
    absl::StrAppend(&out, Entry(entry.name, entry.text));
  }
  return out;
}

}  // namespace

std::string Wrapped(absl::string_view text, size_t column, size_t indent) {
  std::string out;
  size_t at = column;
  bool begins_text = true;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!begins_text) {
      absl::StrAppend(&out, "\n", std::string(line.empty() ? 0 : indent, ' '));
      at = indent;
    }
    begins_text = false;
    const size_t own = std::min(line.find_first_not_of(' '), line.size());
    // An example, or what is aligned by hand.
    if (own >= 2 && at + line.size() <= kHelpColumns) {
      absl::StrAppend(&out, line);
      continue;
    }
    absl::StrAppend(&out, line.substr(0, own));
    at += own;
    bool begins_line = true;
    for (const absl::string_view word : absl::StrSplit(line.substr(own), ' ', absl::SkipEmpty())) {
      if (!begins_line && at + 1 + word.size() > kHelpColumns) {
        absl::StrAppend(&out, "\n", std::string(indent + own, ' '));
        at = indent + own;
        begins_line = true;
      }
      absl::StrAppend(&out, begins_line ? "" : " ", word);
      at += word.size() + (begins_line ? 0 : 1);
      begins_line = false;
    }
  }
  return out;
}

std::string HelpFormat::make_help(const CLI::App* app, std::string name,
                                  CLI::AppFormatMode /*mode*/) const {
  std::string out = absl::StrCat(Wrapped(app->get_description(), 0, 0), "\n\n",
                                 Wrapped(absl::StrCat("Usage: ", UsageOf(*app, name)), 0, 4), "\n");
  if (const auto arguments = ShownFlags(*app, true); !arguments.empty()) {
    absl::StrAppend(&out, "\nArguments:\n");
    for (const CLI::Option* argument : arguments) absl::StrAppend(&out, FlagEntry(*argument));
  }
  if (const auto commands = Commands(*app); !commands.empty()) {
    absl::StrAppend(&out, "\nCommands:\n");
    for (const CLI::App* command : commands) {
      absl::StrAppend(&out, Entry(command->get_name(), Summary(*command)));
    }
  }
  for (const std::string& group : FlagGroups(*app)) {
    absl::StrAppend(&out, "\n", group, ":\n");
    for (const CLI::Option* option : ShownFlags(*app, false)) {
      if (option->get_group() == group) absl::StrAppend(&out, FlagEntry(*option));
    }
  }
  if (const std::string footer = app->get_footer(); !footer.empty()) {
    absl::StrAppend(&out, "\n", footer, "\n");
  }
  if (app->get_parent() == nullptr) {
    absl::StrAppend(&out, Section("Environment", texts_.environment),
                    Section("Exit codes", texts_.exit_codes));
  }
  return out;
}

void UseProgramTexts(CLI::App& app, const ProgramTexts& texts) {
  app.formatter(std::make_shared<HelpFormat>(texts));
  app.set_version_flag("--version", absl::StrCat(app.get_name(), " ", texts.version));
  // Thrown as the version is.
  app.add_flag_callback("--man-page",
                        [&app, texts] { throw CLI::CallForVersion(ManPage(app, texts), 0); })
      ->group("");
  app.add_flag_callback("--bash-completion",
                        [&app] { throw CLI::CallForVersion(BashCompletion(app), 0); })
      ->group("");
}

}  // namespace engram
