#include "server/config.h"

#include <CLI/CLI.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/store/parallel_gather.h"
#include "memstore/table/posix_file.h"
#include "memstore/table/text_format.h"
#include "proto/engram/v1/config.pb.h"

namespace engram {
namespace {

absl::StatusOr<v1::ServerConfig> ReadConfigFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxConfigBytes);
  if (!text.ok()) {
    return absl::Status(text.status().code(), absl::StrCat("--config: ", text.status().message()));
  }
  v1::ServerConfig config;
  if (absl::Status status = ParseTextFormat(*text, &config); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ":", status.message(), " (proto/engram/v1/config.proto has the fields there are)"));
  }
  return config;
}

// Fields as flags and file both give them, before they are understood. Both are checked as one.
struct Given {
  std::string config_file;
  std::vector<std::string> table_sets;
  std::vector<std::string> listen;
  std::string numa;
  std::optional<uint32_t> load_threads;
  std::optional<uint32_t> gather_threads;
  std::optional<uint32_t> lookup_threads;
  std::optional<uint32_t> spin_us;
  std::optional<uint64_t> max_batch_rows;
  std::string shm_socket;
  std::vector<uint32_t> shm_allow_uids;
  std::vector<std::string> rdma_devices;
  bool rdma_read = false;
};

void AddFlags(CLI::App& app, Given* given) {
  app.set_version_flag("--version", absl::StrCat("engramd ", kEngramdVersion));
  app.add_option("--table-set", given->table_sets, "directory of a table set to serve; repeatable")
      ->type_name("DIR")
      ->allow_extra_args(false);
  app.add_option("--listen", given->listen,
                 "HOST:PORT (port 0: any free one, see the log) or unix:PATH; repeatable")
      ->type_name("ADDR")
      ->allow_extra_args(false);
  app.add_option("--config", given->config_file, "configuration file, textproto; flags override it")
      ->type_name("FILE");
  app.add_option("--numa", given->numa,
                 "where table memory lies: local, interleave or bind:N (default: as the process)")
      ->type_name("POLICY");
  app.add_option("--load-threads", given->load_threads,
                 "threads that read and verify while loading (default 16)")
      ->type_name("N");
  app.add_option("--gather-threads", given->gather_threads,
                 "threads that gather one large batch together (default 1)")
      ->type_name("N");
  app.add_option("--lookup-threads", given->lookup_threads,
                 "threads that answer lookups over gRPC (default: half of the cores, at most 8)")
      ->type_name("N");
  app.add_option("--spin-us", given->spin_us,
                 absl::StrCat("microseconds they look for a request before they sleep (default ",
                              kDefaultSpin.count(), "; 0 saves power, costs latency)"))
      ->type_name("N");
  app.add_option("--max-batch-rows", given->max_batch_rows,
                 absl::StrCat("rows of one batch at most (default ", kDefaultMaxBatchRows, ")"))
      ->type_name("N");
  app.add_option("--shm-socket", given->shm_socket,
                 "socket over which clients of this machine get shared memory (default: none)")
      ->type_name("PATH");
  app.add_option("--shm-allow-uid", given->shm_allow_uids,
                 "a user, beside engramd's own, who may have shared memory; repeatable")
      ->type_name("UID")
      ->allow_extra_args(false);
  app.add_option("--rdma-device", given->rdma_devices,
                 "serve over RDMA on this device too, port 1 and its best GID where none is named; "
                 "repeatable (default: no RDMA)")
      ->type_name("DEV[:PORT[:GID]]")
      ->allow_extra_args(false);
  app.add_flag("--rdma-read", given->rdma_read,
               "register the tables, so that RDMA clients may read rows by themselves");
}

// What the flags leave open is taken from the file.
void FillFromFile(const v1::ServerConfig& file, Given* given) {
  if (given->table_sets.empty()) {
    given->table_sets.assign(file.table_set().begin(), file.table_set().end());
  }
  if (given->listen.empty()) given->listen.assign(file.listen().begin(), file.listen().end());
  if (given->numa.empty()) given->numa = file.numa();
  // In the file 0 stands for the default.
  if (!given->load_threads && file.load_threads() > 0) given->load_threads = file.load_threads();
  if (!given->gather_threads && file.gather_threads() > 0) {
    given->gather_threads = file.gather_threads();
  }
  if (!given->lookup_threads && file.lookup_threads() > 0) {
    given->lookup_threads = file.lookup_threads();
  }
  if (!given->spin_us && file.has_spin_us()) given->spin_us = file.spin_us();
  if (!given->max_batch_rows && file.max_batch_rows() > 0) {
    given->max_batch_rows = file.max_batch_rows();
  }
  if (given->shm_socket.empty()) given->shm_socket = file.shm_socket();
  if (given->shm_allow_uids.empty()) {
    given->shm_allow_uids.assign(file.shm_allow_uid().begin(), file.shm_allow_uid().end());
  }
  if (given->rdma_devices.empty()) {
    given->rdma_devices.assign(file.rdma_device().begin(), file.rdma_device().end());
  }
  given->rdma_read = given->rdma_read || file.rdma_read();
}

template <typename T>
absl::Status CheckRange(absl::string_view flag, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", value, " is not between ", least, " and ", most));
}

absl::Status CheckShm(const ServerConfig& config) {
  if (config.shm_socket.empty()) {
    if (config.shm_allow_uids.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--shm-allow-uid is of no use without --shm-socket PATH");
  }
  const absl::StatusOr<ListenAddress> address =
      ParseListenAddress(absl::StrCat("unix:", config.shm_socket));
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--shm-socket: ", address.status().message()));
  }
  for (const ListenAddress& other : config.listen) {
    if (other.unix_path != config.shm_socket) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--shm-socket ", config.shm_socket, " is a --listen address, too"));
  }
  return absl::OkStatus();
}

absl::Status TakeRdma(const Given& given, ServerConfig* config) {
  for (const std::string& text : given.rdma_devices) {
    absl::StatusOr<RdmaDeviceChoice> choice = ParseRdmaDeviceChoice(text);
    if (!choice.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--rdma-device: ", choice.status().message()));
    }
    for (const RdmaDeviceChoice& other : config->rdma_devices) {
      if (other.device != choice->device || other.port != choice->port) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("--rdma-device ", text, " names a port that another names, too"));
    }
    config->rdma_devices.push_back(*std::move(choice));
  }
  config->rdma_read = given.rdma_read;
  if (!config->rdma_read || !config->rdma_devices.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("--rdma-read is of no use without --rdma-device DEV");
}

absl::StatusOr<ServerConfig> Understand(const Given& given) {
  if (given.table_sets.empty()) {
    return absl::InvalidArgumentError("no table set to serve: give --table-set DIR");
  }
  if (given.listen.empty()) {
    return absl::InvalidArgumentError(
        "no address to listen on: give --listen HOST:PORT or --listen unix:PATH");
  }
  ServerConfig config;
  config.table_sets = given.table_sets;
  std::set<std::string> seen;
  for (const std::string& text : given.listen) {
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) return address.status();
    // Port 0 is another port each time.
    if (address->port != "0" && !seen.insert(text).second) {
      return absl::InvalidArgumentError(absl::StrCat("--listen ", text, " is given twice"));
    }
    config.listen.push_back(*std::move(address));
  }
  if (!given.numa.empty()) {
    const absl::StatusOr<NumaPolicy> numa = ParseNumaPolicy(given.numa);
    const absl::Status status = numa.ok() ? CheckNumaPolicy(*numa) : numa.status();
    if (!status.ok()) {
      return absl::Status(status.code(),
                          absl::StrCat("--numa ", given.numa, ": ", status.message()));
    }
    config.numa = *numa;
  }
  config.load_threads = given.load_threads.value_or(config.load_threads);
  config.gather_threads = given.gather_threads.value_or(config.gather_threads);
  config.lookup_threads = given.lookup_threads.value_or(config.lookup_threads);
  const uint64_t spin_us = given.spin_us.value_or(config.spin.count());
  config.spin = std::chrono::microseconds(spin_us);
  config.max_batch_rows = given.max_batch_rows.value_or(config.max_batch_rows);
  config.shm_socket = given.shm_socket;
  config.shm_allow_uids = given.shm_allow_uids;
  const uint64_t most_spin_us = kMaxSpin.count();
  for (const absl::Status& status : {
           CheckRange<uint64_t>("--load-threads", config.load_threads, 0, kMaxLoadThreads),
           CheckRange<uint64_t>("--gather-threads", config.gather_threads, 1,
                                GatherTeam::kMaxThreads),
           CheckRange<uint64_t>("--lookup-threads", config.lookup_threads, 0, kMaxLookupThreads),
           CheckRange<uint64_t>("--spin-us", spin_us, 0, most_spin_us),
           CheckRange<uint64_t>("--max-batch-rows", config.max_batch_rows, 1, kMostBatchRows),
           CheckShm(config),
           TakeRdma(given, &config),
       }) {
    if (!status.ok()) return status;
  }
  return config;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv) {
  CLI::App app{
      "engramd: serves Engram table sets from memory.\n"
      "Exit codes: 0 stopped by a signal, 1 it failed, 2 bad usage.",
      "engramd"};
  Given given;
  AddFlags(app, &given);
  try {
    app.parse(argc, const_cast<char**>(argv));
  } catch (const CLI::CallForVersion& version) {
    return CommandLine{.config = std::nullopt, .text = absl::StrCat(version.what(), "\n")};
  } catch (const CLI::CallForHelp&) {
    return CommandLine{.config = std::nullopt, .text = app.help()};
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  if (!given.config_file.empty()) {
    const absl::StatusOr<v1::ServerConfig> file = ReadConfigFile(given.config_file);
    if (!file.ok()) return file.status();
    FillFromFile(*file, &given);
  }
  absl::StatusOr<ServerConfig> config = Understand(given);
  if (!config.ok()) return config.status();
  return CommandLine{.config = *std::move(config), .text = {}};
}

}  // namespace engram
