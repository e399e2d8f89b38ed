// What a flag's definition says, in words: for help, manual pages and completion.
// Stateless, thread-safe over an App that nobody changes.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace engram {

// What stands for the flag's value: the type that it was given, "N" for a number, "VALUE" for other
// text, or its choices ("int32|int64"); ",..." behind it where several may stand. Empty: a switch.
std::string Placeholder(const CLI::Option& option);

// For CLI::Option::check: values that completion offers, or the beginning of one, up to a colon.
// It refuses nothing, and help does not show them.
CLI::Validator Suggest(const std::vector<std::string>& values);

// What the value may be, where there are few, or what is suggested; empty: many.
std::vector<std::string> Choices(const CLI::Option& option);

// Its description, and what follows of it from its checks: range, whether it is required, what it
// does not go with.
std::string FlagText(const CLI::Option& option);

// "--help", "--batch-tokens"; a positional argument by its name in capitals.
std::string FlagName(const CLI::Option& option);
// "-h,--help".
std::string FlagNames(const CLI::Option& option);

// Those that help shows, of one kind.
std::vector<const CLI::Option*> ShownFlags(const CLI::App& app, bool positional);
// The groups of the flags, in their order, and "Options", which every program has, last.
std::vector<std::string> FlagGroups(const CLI::App& app);

// The commands of a program or of a command, as they were added.
std::vector<const CLI::App*> Commands(const CLI::App& app);

// "engram [OPTIONS] COMMAND"; `name` with those above it, as in "engram verify".
std::string UsageOf(const CLI::App& app, absl::string_view name);

// The first sentence of a command's description, in one line.
std::string Summary(const CLI::App& app);

}  // namespace engram
