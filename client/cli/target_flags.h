// What every command that talks to a target takes: --target, --set, --attach-timeout; and
// attaching.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace engram::cli {

struct TargetFlags {
  std::string target;
  std::string table_set;
  std::string attach_timeout = "30s";
};

void AddTargetFlags(CLI::App& command, TargetFlags* flags);

// Client::Attach as the flags say. `*exit_code` is what a failure ends the command with: kBadUsage
// for a target, set or timeout that was named wrongly (or a set that was not named where there are
// several), kFailed for anything else.
absl::StatusOr<std::unique_ptr<Client>> AttachTo(const TargetFlags& flags, int* exit_code);

}  // namespace engram::cli
