#include "client/cli/support/table_set_argument.h"

#include <memory>
#include <utility>

namespace engram::cli {

CLI::App* AddTableSetCommand(CLI::App& app, const std::string& name, const std::string& description,
                             CommandBody* chosen,
                             std::function<int(const std::string& directory)> body) {
  auto directory = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(name, description);
  command->add_option("directory", *directory, "the table set")->required()->type_name("DIR");
  command->callback([directory, chosen, body = std::move(body)] {
    *chosen = [directory, body] { return body(*directory); };
  });
  return command;
}

}  // namespace engram::cli
