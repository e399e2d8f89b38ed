// What engramd is told, understood and checked. config_layers.h reads it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/discovery/etcd_place.h"
#include "memstore/discovery/etcd_security.h"
#include "memstore/rdma/device.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/numa_policy.h"
#include "server/base/limits.h"
#include "server/config/config_layers.h"
#include "server/net/listen_address.h"
#include "server/security/options.h"

namespace engram {

// A field of the schema as it came to be.
struct EffectiveField {
  std::string name;
  std::string value;   // as the file would say it
  std::string source;  // "default", "flag --numa", "environment ENGRAMD_NUMA", "FILE:3"
};

struct ServerConfig {
  std::vector<std::string> table_sets;  // directories, absolute
  std::string checkpoint;               // directory of a model; empty: none
  std::string family;                   // its family, one that is known; empty where there is none
  uint64_t rows_per_head = 0;           // 0: what the model or the family says
  std::string token_map;                // empty: made from the model's tokenizer
  std::string state_dir;                // absolute; empty: none
  bool ignore_recorded = false;         // what was published before is not served
  // In place of state_dir where that is empty: whoever starts engramd made it and removes it.
  std::string scratch_dir;
  std::optional<Partition> partition;  // of every set; nothing: all of it
  std::vector<ListenAddress> listen;
  std::string zone;  // where it is; empty: not said
  NumaPolicy numa;
  uint64_t memory_limit_bytes = 0;  // 0: what the machine has
  uint32_t load_threads = 0;        // 0: enough to keep a device's queue filled
  uint32_t gather_threads = 1;
  uint32_t gather_ahead = 0;    // rows; 0: measured
  uint32_t lookup_threads = 0;  // 0: half of the machine's, at most 8
  std::chrono::microseconds spin = kDefaultSpin;
  uint64_t max_batch_rows = kDefaultMaxBatchRows;
  std::string shm_socket;  // empty: no shared memory
  std::vector<uint32_t> shm_allow_uids;
  std::vector<RdmaDeviceChoice> rdma_devices;  // empty: no RDMA
  bool rdma_read = false;

  std::optional<ListenAddress> admin_listen;  // HTTP
  std::optional<ListenAddress> admin_grpc_listen;
  std::chrono::seconds lame_duck = kDefaultLameDuck;
  std::chrono::seconds drain_grace = kDefaultDrainGrace;
  std::chrono::seconds retire_grace = kDefaultRetireGrace;
  uint32_t scrub_mib_per_s = kDefaultScrubMibPerS;  // 0: never
  bool log_json = false;
  std::string log_level = "info";  // debug, info, warn, error

  TlsFiles tls;                  // of `listen`'s TCP addresses
  TlsFiles admin_tls;            // of admin_grpc_listen
  std::string token_file;        // empty: calls need no token
  std::vector<Allowance> allow;  // empty: all who may call may have all
  std::vector<std::string> admin_identities;
  std::vector<uint32_t> unix_allow_uids;  // empty: no check

  std::optional<EtcdPlace> register_place;  // where it registers; none: nowhere
  std::string advertise;                    // HOST:PORT; with register_place
  EtcdSecurity register_security;

  std::vector<EffectiveField> effective;  // every field of the schema, in its order
};

// A configuration to serve by, or a text to print (--help, --version, --print-config) and nothing
// else to do.
struct CommandLine {
  std::optional<ServerConfig> config = std::nullopt;
  bool check_only = false;  // --check-config
  // All that is wrong with the values, of check_only alone: `config` has the others, or is nothing
  // where the file that has them cannot be read.
  std::vector<absl::Status> faults = {};
  std::string text = {};
};

// Whatever is wrong is bad usage: INVALID_ARGUMENT (the system's code for a file) that names the
// flag, the variable, or the file and line. The first of it is the error; with --check-config only
// what keeps the flags from being read at all.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv,
                                             absl::Span<const char* const> environment);

// The fields as a configuration file that says the same, with each one's source as a comment.
std::string PrintConfig(absl::Span<const EffectiveField> fields);

}  // namespace engram
