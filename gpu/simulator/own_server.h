// A small table set and an engramd of the simulator's own; both go when it goes, and when a signal
// ends the process. One that cannot be caught (SIGKILL) leaves the set's files alone.
#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gpu/simulator/end_by_signal.h"

namespace engram::simulator {

struct OwnServerOptions {
  std::string engramd;  // the program
  absl::string_view family;
  std::string token_map;  // a file, for the families that have one
  uint64_t rows_per_head = 0;
  EndBySignal* ends = nullptr;  // outlives the server
};

class OwnServer {
 public:
  OwnServer() = default;
  ~OwnServer();
  OwnServer(const OwnServer&) = delete;
  OwnServer& operator=(const OwnServer&) = delete;

  // By the thread that lives as long as the process: engramd ends with it. NOT_FOUND: no such
  // program. Else what packing says, or the system.
  absl::Status Start(const OwnServerOptions& options);

  std::string set() const { return directory_ + "/set"; }
  std::string socket() const { return directory_ + "/grpc"; }
  std::string shm() const { return directory_ + "/shm"; }

 private:
  // In the child: engramd in its place.
  [[noreturn]] void RunEngramd(const std::string& program, pid_t parent) const;
  // Of the directory, and of engramd once it runs.
  void CleanUpAtTheEnd();

  EndBySignal* ends_ = nullptr;
  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace engram::simulator
