#include "client/cli/command.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"

namespace engram::cli {

int Finish(const absl::Status& status, int failure_code) {
  if (status.ok()) return kDone;
  std::fprintf(stderr, "engram: %s\n", std::string(status.message()).c_str());
  return failure_code;
}

absl::Status Print(absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      absl::StrCat("cannot write to standard output: ", strerrordesc_np(errno)));
}

}  // namespace engram::cli
