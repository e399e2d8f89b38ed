// The table set that a command works on, as its one positional argument.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "client/cli/support/command.h"

namespace engram::cli {

// Adds the subcommand `name` with its required directory; `body` is called with it when the
// subcommand is the one chosen. Returns the subcommand, for its own flags.
CLI::App* AddTableSetCommand(CLI::App& app, const std::string& name, const std::string& description,
                             CommandBody* chosen,
                             std::function<int(const std::string& directory)> body);

}  // namespace engram::cli
