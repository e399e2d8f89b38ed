#include "client/cli/command.h"

#include <cstdio>
#include <string>

namespace engram::cli {

int Finish(const absl::Status& status, int failure_code) {
  if (status.ok()) return kDone;
  std::fprintf(stderr, "engram: %s\n", std::string(status.message()).c_str());
  return failure_code;
}

}  // namespace engram::cli
