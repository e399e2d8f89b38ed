// A small table set and an engramd of the simulator's own, or several that have a part of it each;
// all go when it goes, and when a signal ends the process. One that cannot be caught (SIGKILL)
// leaves the set's files alone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "gpu/simulator/end_by_signal.h"

namespace engram::simulator {

struct OwnServerOptions {
  std::string engramd;  // the program
  absl::string_view family;
  std::string token_map;  // a file, for the families that have one
  uint64_t rows_per_head = 0;
  uint32_t partitions = 0;  // beside the one that has all of the set, so many that have K/N of it
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
  std::string cluster() const;  // of the partitions: a target

 private:
  absl::Status StartEngramd(const std::string& program, const std::vector<std::string>& flags);
  // In the child: engramd in its place.
  [[noreturn]] static void RunEngramd(const std::string& program,
                                      const std::vector<std::string>& flags, pid_t parent);
  std::string part_socket(uint32_t partition) const;
  // Of the directory, and of those engramds that run.
  void CleanUpAtTheEnd();

  EndBySignal* ends_ = nullptr;
  std::string directory_;
  uint32_t partitions_ = 0;
  std::vector<pid_t> pids_;
};

}  // namespace engram::simulator
