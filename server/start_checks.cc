#include "server/start_checks.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/table/manifest.h"
#include "server/net/listen_socket.h"
#include "server/security/access.h"
#include "server/security/tls.h"

namespace engram {
namespace {

struct Named {
  std::string directory;
  Manifest manifest;
};

absl::Status CheckDistinct(const Named& one, const Named& other) {
  const std::string both = absl::StrCat(one.directory, " and ", other.directory);
  if (one.manifest.id == other.manifest.id) {
    return absl::AlreadyExistsError(absl::StrCat("table set ", one.manifest.name, " ",
                                                 one.manifest.id, " is given twice, as ", both,
                                                 ": give it once"));
  }
  if (one.manifest.name == other.manifest.name) {
    return absl::AlreadyExistsError(
        absl::StrCat("two table sets are named ", one.manifest.name, ", ", both,
                     ": serve one of them, or pack one with another `engram pack --name`"));
  }
  return absl::OkStatus();
}

absl::Status CheckTokenFits(const Named& set, uint64_t max_batch_rows) {
  const uint64_t token_rows = uint64_t{set.manifest.scheme.Columns()} * set.manifest.layers.size();
  if (token_rows <= max_batch_rows) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--max-batch-rows ", max_batch_rows, " is less than one token of table set ",
                   set.directory, " has: give ", token_rows, " or more"));
}

absl::Status CheckSecurity(const ServerConfig& config) {
  for (const TlsFiles* files : {&config.tls, &config.admin_tls}) {
    if (!files->on()) continue;
    ENGRAM_RETURN_IF_ERROR(CheckTlsFiles(*files));
  }
  return config.token_file.empty() ? absl::OkStatus()
                                   : AccessControl::CheckTokenFile(config.token_file);
}

absl::Status CheckTableSets(const ServerConfig& config) {
  std::vector<Named> sets;
  for (const std::string& directory : config.table_sets) {
    absl::StatusOr<Manifest> manifest = LoadManifest(directory);
    if (!manifest.ok()) {
      return absl::Status(manifest.status().code(),
                          absl::StrCat("table set ", directory, ": ", manifest.status().message()));
    }
    Named set{directory, *std::move(manifest)};
    for (const Named& other : sets) {
      ENGRAM_RETURN_IF_ERROR(CheckDistinct(other, set));
    }
    ENGRAM_RETURN_IF_ERROR(CheckTokenFits(set, config.max_batch_rows));
    sets.push_back(std::move(set));
  }
  return absl::OkStatus();
}

absl::Status OfFlag(absl::string_view flag, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat(flag, ": ", status.message()));
}

// `check` of each address that is bound when the tables are loaded. The HTTP pages' is bound
// before.
absl::Status CheckAddresses(const ServerConfig& config,
                            absl::Status (*check)(const ListenAddress&)) {
  for (const ListenAddress& address : config.listen) {
    ENGRAM_RETURN_IF_ERROR(OfFlag("--listen", check(address)));
  }
  if (config.admin_grpc_listen) {
    ENGRAM_RETURN_IF_ERROR(OfFlag("--admin-grpc-listen", check(*config.admin_grpc_listen)));
  }
  if (config.shm_socket.empty()) return absl::OkStatus();
  const absl::StatusOr<ListenAddress> shm =
      ParseListenAddress(absl::StrCat("unix:", config.shm_socket));
  return OfFlag(absl::StrCat("--shm-socket ", config.shm_socket),
                shm.ok() ? check(*shm) : shm.status());
}

}  // namespace

absl::Status CheckConfiguration(const ServerConfig& config) {
  ENGRAM_RETURN_IF_ERROR(CheckSecurity(config));
  ENGRAM_RETURN_IF_ERROR(CheckTableSets(config));
  return CheckAddresses(config, CheckSocketFolder);
}

absl::Status CheckBeforeLoading(const ServerConfig& config) {
  ENGRAM_RETURN_IF_ERROR(CheckSecurity(config));
  ENGRAM_RETURN_IF_ERROR(CheckTableSets(config));
  return CheckAddresses(config, CheckCanListen);
}

}  // namespace engram
