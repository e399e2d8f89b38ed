#include "memstore/program/man_page.h"

#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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

// Those of a program have headings of their own, those of a command stand below its.
std::string Flags(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* argument : ShownFlags(app, true)) {
    absl::StrAppend(&out, FlagEntry(*argument));
  }
  const std::vector<std::string> groups = FlagGroups(app);
  const bool is_program = app.get_parent() == nullptr;
  for (const std::string& group : groups) {
    if (groups.size() > 1) {
      absl::StrAppend(&out, is_program ? ".SS " : ".PP\n\\fI", Escaped(group),
                      is_program ? "\n" : ":\\fR\n");
    }
    for (const CLI::Option* option : ShownFlags(app, false)) {
      if (option->get_group() == group) absl::StrAppend(&out, FlagEntry(*option));
    }
  }
  return out;
}

// How the program is called: by each command that does something by itself.
void AddUsage(const CLI::App& app, const std::string& name, std::string* out) {
  const std::vector<const CLI::App*> commands = Commands(app);
  for (const CLI::App* command : commands) {
    AddUsage(*command, absl::StrCat(name, " ", command->get_name()), out);
  }
  if (!commands.empty()) return;
  absl::StrAppend(out, out->empty() ? "" : ".br\n", "\\fB", Escaped(UsageOf(app, name)), "\\fR\n");
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

// Nothing where there are no entries.
std::string Section(absl::string_view heading, const std::vector<ProgramTexts::Entry>& entries) {
  if (entries.empty()) return "";
  std::string out = absl::StrCat(".SH ", heading, "\n");
  for (const ProgramTexts::Entry& entry : entries) {
    absl::StrAppend(&out, ".TP\n\\fB", Escaped(entry.name), "\\fR\n", Text(entry.text));
  }
  return out;
}

std::string Examples(const std::vector<ProgramTexts::Entry>& examples) {
  if (examples.empty()) return "";
  std::string out = ".SH EXAMPLES\n";
  for (const ProgramTexts::Entry& example : examples) {
    absl::StrAppend(&out, ".PP\n", Text(example.text), ".RS\n.nf\n", Escaped(example.name),
                    "\n.fi\n.RE\n");
  }
  return out;
}

// "engramd(8)" in the way of pages: the name is bold.
std::string SeeAlso(const std::vector<std::string>& pages) {
  if (pages.empty()) return "";
  std::vector<std::string> shown;
  for (const std::string& page : pages) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(page, absl::MaxSplits('(', 1));
    shown.push_back(absl::StrCat("\\fB", Escaped(parts.first), "\\fR",
                                 parts.second.empty() ? "" : "(", parts.second));
  }
  return absl::StrCat(".SH \"SEE ALSO\"\n", absl::StrJoin(shown, ",\n"), "\n");
}

}  // namespace

std::string ManPage(const CLI::App& app, const ProgramTexts& texts) {
  const std::string& name = app.get_name();
  std::string summary = Summary(app);
  // "engram: ..." says the name once more.
  if (absl::StartsWith(summary, absl::StrCat(name, ": ")))
    summary = summary.substr(name.size() + 2);
  std::string usage;
  AddUsage(app, name, &usage);
  // Not hyphenated, and not stretched to the right margin.
  std::string out = absl::StrCat(
      ".TH ", absl::AsciiStrToUpper(name), " ", texts.section, " \"\" \"", name, " ", texts.version,
      "\"\n.nh\n.ad l\n.SH NAME\n", name, " \\- ", Escaped(summary), "\n.SH SYNOPSIS\n", usage,
      ".SH DESCRIPTION\n", Text(app.get_description()), ".SH OPTIONS\n", Flags(app));
  const std::vector<const CLI::App*> commands = Commands(app);
  if (!commands.empty()) absl::StrAppend(&out, ".SH COMMANDS\n");
  for (const CLI::App* command : commands) AddCommand(*command, name, &out);
  absl::StrAppend(&out, Section("\"EXIT STATUS\"", texts.exit_codes),
                  Section("ENVIRONMENT", texts.environment), Examples(texts.examples),
                  SeeAlso(texts.see_also));
  while (absl::EndsWith(out, "\n")) out.pop_back();  // whoever prints it adds one
  return out;
}

}  // namespace engram
