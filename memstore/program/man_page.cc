#include "memstore/program/man_page.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "memstore/program/flag_text.h"

namespace engram {
namespace {

std::string Escaped(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
}

// Lines of text, of which none is a request to the formatter; what is indented stays as it lies.
std::string Text(absl::string_view text) {
  std::string out;
  bool lies = false;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const bool indented = absl::StartsWith(line, "  ");
    if (indented != lies) absl::StrAppend(&out, indented ? ".nf\n" : ".fi\n");
    lies = indented;
    if (line.empty()) {
      absl::StrAppend(&out, ".PP\n");
      continue;
    }
    const bool is_request = line.front() == '.' || line.front() == '\'';
    absl::StrAppend(&out, is_request ? "\\&" : "", Escaped(line), "\n");
  }
  if (lies) absl::StrAppend(&out, ".fi\n");
  return out;
}

std::string FlagEntry(const CLI::Option& option) {
  const std::string value = option.nonpositional() ? Placeholder(option) : "";
  return absl::StrCat(".TP\n\\fB", Escaped(FlagNames(option)), "\\fR",
                      value.empty() ? "" : absl::StrCat(" \\fI", Escaped(value), "\\fR"), "\n",
                      Text(FlagText(option)));
}

std::string Flags(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* argument : ShownFlags(app, true)) {
    absl::StrAppend(&out, FlagEntry(*argument));
  }
  for (const std::string& group : FlagGroups(app)) {
    for (const CLI::Option* option : ShownFlags(app, false)) {
      if (option->get_group() == group) absl::StrAppend(&out, FlagEntry(*option));
    }
  }
  return out;
}

// A command and those below it.
void AddCommand(const CLI::App& command, const std::string& above, std::string* out) {
  const std::string name = absl::StrCat(above, " ", command.get_name());
  absl::StrAppend(out, ".SS ", Escaped(UsageOf(command, name)), "\n",
                  Text(command.get_description()), Flags(command));
  if (const std::string footer = command.get_footer(); !footer.empty()) {
    absl::StrAppend(out, ".PP\n.nf\n", Escaped(footer), "\n.fi\n");
  }
  for (const CLI::App* below : Commands(command)) AddCommand(*below, name, out);
}

}  // namespace

std::string ManPage(const CLI::App& app, const std::string& version, const std::string& section) {
  const std::string& name = app.get_name();
  std::string summary = Summary(app);
  // "engram: ..." says the name once more.
  if (absl::StartsWith(summary, absl::StrCat(name, ": ")))
    summary = summary.substr(name.size() + 2);
  std::string out =
      absl::StrCat(".TH ", absl::AsciiStrToUpper(name), " ", section, " \"\" \"", name, " ",
                   version, "\"\n", ".SH NAME\n", name, " \\- ", Escaped(summary),
                   "\n.SH SYNOPSIS\n\\fB", Escaped(UsageOf(app, name)), "\\fR\n.SH DESCRIPTION\n",
                   Text(app.get_description()), ".SH OPTIONS\n", Flags(app));
  const std::vector<const CLI::App*> commands = Commands(app);
  if (!commands.empty()) absl::StrAppend(&out, ".SH COMMANDS\n");
  for (const CLI::App* command : commands) AddCommand(*command, name, &out);
  while (absl::EndsWith(out, "\n")) out.pop_back();  // whoever prints it adds one
  return out;
}

}  // namespace engram
