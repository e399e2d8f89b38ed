// Completion of a program's command lines in bash, from the flags that it has.
// Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace engram {

// A file for /usr/share/bash-completion/completions: commands, flags, the values of those that have
// a few, and directories or files for the rest.
std::string BashCompletion(const CLI::App& app);

}  // namespace engram
