// A small table set and an engramd of the simulator's own; both go when it goes.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace engram::simulator {

struct OwnServerOptions {
  std::string engramd;  // the program
  absl::string_view family;
  std::string token_map;  // a file, for the families that have one
  uint64_t rows_per_head = 0;
};

class OwnServer {
 public:
  OwnServer() = default;
  ~OwnServer();
  OwnServer(const OwnServer&) = delete;
  OwnServer& operator=(const OwnServer&) = delete;

  // NOT_FOUND: no such program. Else what packing says, or the system.
  absl::Status Start(const OwnServerOptions& options);

  std::string set() const { return directory_ + "/set"; }
  std::string socket() const { return directory_ + "/grpc"; }
  std::string shm() const { return directory_ + "/shm"; }

 private:
  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace engram::simulator
