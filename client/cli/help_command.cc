// engram help and engram version: what --help and --version say, as commands.

#include <memory>
#include <string>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "client/cli/support/command.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/program/flag_text.h"
#include "memstore/program/nearest_name.h"
#include "proto/wire/version.h"

namespace engram::cli {
namespace {

absl::Status NoCommand(const std::string& above, const std::string& word,
                       const std::vector<const CLI::App*>& commands) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands) names.push_back(command->get_name());
  const std::string nearest = NearestName(word, names);
  return absl::InvalidArgumentError(
      absl::StrCat(above, " has no command \"", QuoteForMessage(word), "\"",
                   nearest.empty() ? "" : absl::StrCat(": did you mean ", nearest, "?")));
}

int Help(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  std::string name = app.get_name();
  for (const std::string& word : words) {
    const std::vector<const CLI::App*> commands = Commands(*at);
    const auto found =
        absl::c_find_if(commands, [&](const CLI::App* one) { return one->get_name() == word; });
    if (found == commands.end()) return Finish(NoCommand(name, word, commands), kBadUsage);
    at = *found;
    absl::StrAppend(&name, " ", word);
  }
  return Finish(Print(at->get_formatter()->make_help(at, name, CLI::AppFormatMode::Normal)));
}

}  // namespace

void AddHelpCommand(CLI::App& app, CommandBody* chosen) {
  auto words = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("help", "Print the help of the program or of a command.");
  std::vector<std::string> names;
  for (const CLI::App* other : Commands(app)) names.push_back(other->get_name());
  command->add_option("command", *words, "one, or several words, as in `engram help admin publish`")
      ->check(Suggest(names));
  command->callback(
      [&app, words, chosen] { *chosen = [&app, words] { return Help(app, *words); }; });
}

void AddVersionCommand(CLI::App& app, CommandBody* chosen) {
  app.add_subcommand("version", "Print the version.")->callback([&app, chosen] {
    *chosen = [&app] {
      return Finish(Print(absl::StrCat(app.get_name(), " ", kEngramVersion, "\n")));
    };
  });
}

}  // namespace engram::cli
