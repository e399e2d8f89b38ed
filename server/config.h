// What engramd is told: flags, over one configuration file (ServerConfig in config.proto).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "memstore/rdma/device.h"
#include "memstore/store/numa_policy.h"
#include "server/limits.h"
#include "server/listen_address.h"

namespace engram {

inline constexpr char kEngramdVersion[] = "0.1.0";

struct ServerConfig {
  std::vector<std::string> table_sets;  // directories
  std::vector<ListenAddress> listen;
  NumaPolicy numa;
  uint32_t load_threads = 0;  // 0: enough to keep a device's queue filled
  uint32_t gather_threads = 1;
  uint32_t lookup_threads = 0;  // 0: half of the machine's, at most 8
  std::chrono::microseconds spin = kDefaultSpin;
  uint64_t max_batch_rows = kDefaultMaxBatchRows;
  std::string shm_socket;  // empty: no shared memory
  std::vector<uint32_t> shm_allow_uids;
  std::vector<RdmaDeviceChoice> rdma_devices;  // empty: no RDMA
  bool rdma_read = false;
};

// A configuration to serve by, or a text to print (--help, --version) and nothing else to do.
struct CommandLine {
  std::optional<ServerConfig> config;
  std::string text;
};

// Whatever is wrong is bad usage: INVALID_ARGUMENT (the system's code for a file) that names the
// flag or the file, line and column. A flag replaces what the file says of the same thing.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

}  // namespace engram
