// What was wrong with a command line, in words.
// Stateless.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace engram {

// After app.parse threw `error`: "there is no command "pakc": did you mean pack?", "engram verify
// has no flag --thraeds: did you mean --threads?", or the error's own words, as a line. What was
// not known is said before what is missing for it.
std::string ExplainParseError(const CLI::App& app, const CLI::ParseError& error);

// The command that has help for it: "engram verify --help".
std::string HelpFor(const CLI::App& app);

}  // namespace engram
