#include "client/cli/support/command.h"

#include <cstdio>
#include <string>

#include "memstore/base/message_line.h"
#include "memstore/os/standard_streams.h"

namespace engram::cli {

void GroupFlags(CLI::App& command, const std::string& heading,
                std::initializer_list<const char*> flags) {
  for (const char* flag : flags) command.get_option(flag)->group(heading);
}

std::string RefuseEmpty(const std::string& value) {
  return value.empty() ? "the value is empty: give one, or leave the flag out" : "";
}

int Finish(const absl::Status& status, int failure_code) {
  if (status.ok()) return kDone;
  std::fprintf(stderr, "engram: %s\n", MessageLine(status.message()).c_str());
  return failure_code;
}

absl::Status Print(absl::string_view text) { return PrintToEnd(text); }

}  // namespace engram::cli
