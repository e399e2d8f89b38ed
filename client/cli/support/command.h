// The `engram` command is one program of subcommands; each stands in a file of its own and is added
// here.
//
// Exit codes: 0 done, 1 the work failed, 2 bad usage. A message goes to standard error as one line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram::cli {

inline constexpr int kDone = 0;
inline constexpr int kFailed = 1;
inline constexpr int kBadUsage = 2;

// What the chosen subcommand does once its flags are parsed; returns the exit code.
using CommandBody = std::function<int()>;

// Each adds its subcommand to `app`; when it is the one chosen, its body is stored to `*chosen`.
void AddAddressCommand(CLI::App& app, CommandBody* chosen);
void AddPackCommand(CLI::App& app, CommandBody* chosen);
void AddVerifyCommand(CLI::App& app, CommandBody* chosen);
void AddInspectCommand(CLI::App& app, CommandBody* chosen);
void AddPartitionPlanCommand(CLI::App& app, CommandBody* chosen);
void AddLookupCommand(CLI::App& app, CommandBody* chosen);
void AddBenchCommand(CLI::App& app, CommandBody* chosen);
void AddTokenMapCommand(CLI::App& app, CommandBody* chosen);
void AddAdminCommand(CLI::App& app, CommandBody* chosen);
// These two are of the whole program, and `app` has to outlive what they store.
void AddHelpCommand(CLI::App& app, CommandBody* chosen);
void AddVersionCommand(CLI::App& app, CommandBody* chosen);

// Gives the command's flags of these names a heading in its help.
void GroupFlags(CLI::App& command, const std::string& heading,
                std::initializer_list<const char*> flags);

// For CLI::Option::check: refuses an empty value, which would count as none that was given. What a
// script's variable was to hold and does not is said, before rows travel without TLS, say.
std::string RefuseEmpty(const std::string& value);

// Prints "engram: MESSAGE" to standard error when `status` is not OK; kDone or `failure_code`.
int Finish(const absl::Status& status, int failure_code = kFailed);

// Writes `text` to standard output, to the end: UNAVAILABLE when it did not get there. Whatever a
// command prints goes through it.
absl::Status Print(absl::string_view text);

}  // namespace engram::cli
