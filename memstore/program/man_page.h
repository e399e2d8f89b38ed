// A program's manual page, from the flags that it has.
// Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace engram {

// In man's macros, for `man -l`: the program's description, its flags, and each command's with its
// own. It names no date, so that the same program makes the same page.
std::string ManPage(const CLI::App& app, const std::string& version, const std::string& section);

}  // namespace engram
