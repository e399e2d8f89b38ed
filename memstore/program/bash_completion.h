// Completion of a program's command lines in bash, from the flags that it has.
// Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace engram {

// A file for /usr/share/bash-completion/completions: commands, flags, the values of those that have
// a few or suggest some (flag_text.h), and directories or files for those that take a path. Of
// commands that take an argument, the same of it.
std::string BashCompletion(const CLI::App& app);

}  // namespace engram
