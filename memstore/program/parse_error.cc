#include "memstore/program/parse_error.h"

#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/message_line.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/nearest_name.h"

namespace engram {
namespace {

// The program and the commands that were chosen below it.
std::vector<const CLI::App*> Chosen(const CLI::App& app) {
  std::vector<const CLI::App*> chosen = {&app};
  while (!chosen.back()->get_subcommands().empty()) {
    chosen.push_back(chosen.back()->get_subcommands().front());
  }
  return chosen;
}

std::string NameOf(const std::vector<const CLI::App*>& chosen) {
  std::string name;
  for (const CLI::App* app : chosen) {
    absl::StrAppend(&name, name.empty() ? "" : " ", app->get_name());
  }
  return name;
}

std::string Meant(absl::string_view word, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(word, names);
  return nearest.empty() ? "" : absl::StrCat(": did you mean ", nearest, "?");
}

std::vector<std::string> NamesOfFlags(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : ShownFlags(app, false)) {
    for (const std::string& name : option->get_lnames()) names.push_back(absl::StrCat("--", name));
  }
  return names;
}

}  // namespace

std::string ExplainParseError(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<const CLI::App*> chosen = Chosen(app);
  const CLI::App& last = *chosen.back();
  const std::vector<std::string> rest = last.remaining();
  const std::vector<const CLI::App*> commands = Commands(last);
  // Flags behind a command that there is not are that one's, whichever it is.
  if (!commands.empty() && !rest.empty() && !absl::StartsWith(rest.front(), "-")) {
    std::vector<std::string> names;
    names.reserve(commands.size());
    for (const CLI::App* command : commands) names.push_back(command->get_name());
    return absl::StrCat(NameOf(chosen), " has no command \"", QuoteForMessage(rest.front()), "\"",
                        Meant(rest.front(), names));
  }
  for (const CLI::App* level : chosen) {
    for (const std::string& word : level->remaining()) {
      if (word.size() < 2 || word.front() != '-' || word == "--") continue;
      const std::string flag = word.substr(0, word.find('='));
      const std::vector<const CLI::App*> above(chosen.begin(),
                                               std::find(chosen.begin(), chosen.end(), level) + 1);
      // The program's name stands before the message already.
      return absl::StrCat(above.size() == 1 ? "there is" : absl::StrCat(NameOf(above), " has"),
                          " no flag ", QuoteForMessage(flag), Meant(flag, NamesOfFlags(*level)));
    }
  }
  if (!commands.empty() && rest.empty()) return absl::StrCat(NameOf(chosen), " needs a command");
  return MessageLine(error.what());
}

std::string HelpFor(const CLI::App& app) { return absl::StrCat(NameOf(Chosen(app)), " --help"); }

}  // namespace engram
