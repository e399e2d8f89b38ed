#include "server/start_checks.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/token_map.h"
#include "memstore/base/human_units.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/discovery/etcd_security.h"
#include "memstore/os/posix_file.h"
#include "memstore/partition/partition.h"
#include "memstore/store/available_memory.h"
#include "memstore/store/held_blocks.h"
#include "memstore/store/table_set.h"
#include "memstore/table/linked_rows.h"
#include "memstore/table/manifest.h"
#include "memstore/table/set_directory.h"
#include "memstore/table/side_files.h"
#include "memstore/tls/pem.h"
#include "server/net/listen_socket.h"
#include "server/security/options.h"
#include "server/security/token_file.h"
#include "server/table_sets/publication_record.h"

namespace engram {
namespace {

struct Named {
  std::string directory;
  Manifest manifest;
  // The rows of each layer that are to be held; of a set that has not got the partition, none.
  std::vector<HeldLayer> held = {};
  uint64_t row_bytes = 0;  // of those
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

absl::Status OfSet(const std::string& directory, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(),
                                    absl::StrCat("table set ", directory, ": ", status.message()));
}

absl::Status OfFlag(absl::string_view flag, const absl::Status& status) {
  return status.ok() ? status
                     : absl::Status(status.code(), absl::StrCat(flag, ": ", status.message()));
}

absl::Status CheckPair(const TlsFiles& files, absl::string_view port, absl::string_view flag) {
  ENGRAM_RETURN_IF_ERROR(
      OfFlag(absl::StrCat(flag, " of ", port), CheckKeyPairFiles(files.cert, files.key)));
  return OfFlag(flag, CheckServerCertificateFile(files.cert));
}

// `flag` gave the certificate.
void LookAtTls(const TlsFiles& files, absl::string_view port, absl::string_view flag,
               std::vector<Finding>& findings) {
  if (!files.on()) return;
  findings.push_back(
      {absl::StrCat("certificate ", files.cert, " and key ", files.key, " of ", port),
       CheckPair(files, port, flag)});
  if (files.client_ca.empty()) return;
  findings.push_back({absl::StrCat("authorities ", files.client_ca, " of clients of ", port),
                      CheckAuthoritiesFile(files.client_ca)});
}

// Of etcd's. What fails here would fail when it serves.
void LookAtRegistration(const EtcdSecurity& security, std::vector<Finding>& findings) {
  if (!security.ca.empty()) {
    findings.push_back({absl::StrCat("authorities ", security.ca, " of etcd"),
                        OfFlag("--register-ca", CheckAuthoritiesFile(security.ca))});
  }
  if (!security.cert.empty()) {
    findings.push_back(
        {absl::StrCat("certificate ", security.cert, " and key ", security.key, " for etcd"),
         OfFlag("--register-cert", CheckKeyPairFiles(security.cert, security.key))});
  }
  if (!security.password_file.empty()) {
    findings.push_back(
        {absl::StrCat("password ", security.password_file, " for etcd"),
         OfFlag("--register-password-file", ReadEtcdPassword(security.password_file).status())});
  }
}

std::vector<Finding> LookAtSecurity(const ServerConfig& config) {
  std::vector<Finding> findings;
  LookAtTls(config.tls, "--listen", "--tls-cert", findings);
  LookAtTls(config.admin_tls, "--admin-grpc-listen",
            config.admin_tls.cert == config.tls.cert ? "--tls-cert" : "--admin-tls-cert", findings);
  LookAtRegistration(config.register_security, findings);
  if (!config.token_file.empty()) {
    findings.push_back({absl::StrCat("tokens ", config.token_file),
                        OfFlag("--token-file", TokenFile::Check(config.token_file))});
  }
  return findings;
}

// What loading reads before the rows: the token map, side files but the pages' checksums, and what
// is linked.
absl::Status CheckFiles(const Named& set, const std::string& state_directory) {
  ENGRAM_RETURN_IF_ERROR(CheckSetDirectory(set.directory, set.manifest));
  const AddressScheme& scheme = set.manifest.scheme;
  if (scheme.token_map) {
    ENGRAM_RETURN_IF_ERROR(TokenMap::Load(JoinPath(set.directory, scheme.token_map->file),
                                          scheme.vocab_size, *scheme.token_map)
                               .status());
  }
  const std::string sides = SideDirectory(state_directory, set.manifest.id);
  ENGRAM_ASSIGN_OR_RETURN(SideFiles side_files,
                          LoadSmallSideFiles(set.directory, sides, set.manifest));
  ENGRAM_ASSIGN_OR_RETURN(const auto links,
                          TakeLinkedRows(set.directory, set.manifest, side_files));
  return links ? CheckLinkedFiles(*links) : absl::OkStatus();
}

absl::Status CheckSet(const Named& set, const std::vector<Named>& others,
                      const std::string& state_directory, uint64_t max_batch_rows) {
  ENGRAM_RETURN_IF_ERROR(OfSet(set.directory, CheckFiles(set, state_directory)));
  for (const Named& other : others) ENGRAM_RETURN_IF_ERROR(CheckDistinct(other, set));
  return CheckTokenFits(set, max_batch_rows);
}

// Before the rows are read: a set that is linked has the family's name.
absl::Status CheckCheckpointName(const ServerConfig& config, const std::vector<Named>& sets) {
  ENGRAM_ASSIGN_OR_RETURN(const Family* const family, FindFamily(config.family));
  for (const Named& set : sets) {
    if (set.manifest.name != family->name) continue;
    return absl::AlreadyExistsError(
        absl::StrCat("two table sets would be named ", set.manifest.name, ", ", set.directory,
                     " and that of --checkpoint ", config.checkpoint,
                     ": serve one of them, or pack one with another `engram pack --name`"));
  }
  return absl::OkStatus();
}

// What keeps the checkpoint from being linked, whatever is in it.
absl::Status CheckCheckpointFits(const ServerConfig& config, const std::vector<Named>& sets) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointName(config, sets));
  return CheckCheckpointPlace(SourceOf(config), config.state_dir);
}

// The bytes of its rows.
absl::StatusOr<uint64_t> LookAtCheckpoint(const ServerConfig& config,
                                          const std::vector<Named>& sets) {
  ENGRAM_RETURN_IF_ERROR(CheckCheckpointFits(config, sets));
  return CheckCheckpointSource(SourceOf(config));
}

// What is held of a set, and of how much, where it is not all of it.
absl::Status TakeHeld(const std::optional<Partition>& partition, Named& set) {
  ENGRAM_ASSIGN_OR_RETURN(set.held, HeldBy(partition, set.manifest));
  set.row_bytes = HeldRowBytes(set.manifest, set.held);
  return absl::OkStatus();
}

std::string RowBytesText(const Named& set) {
  const uint64_t all = set.manifest.TableBytes();
  return set.row_bytes == all ? ExactBytes(all)
                              : absl::StrCat(ExactBytes(set.row_bytes), " of ", ExactBytes(all));
}

// Those that could be read are put into `sets`.
std::vector<Finding> LookAtTableSets(absl::Span<const std::string> directories,
                                     const SetsToServe& how, std::vector<Named>* sets) {
  std::vector<Finding> findings;
  for (const std::string& directory : directories) {
    absl::StatusOr<Manifest> manifest = LoadManifest(directory);
    if (!manifest.ok()) {
      findings.push_back(
          {absl::StrCat("table set ", directory), OfSet(directory, manifest.status())});
      continue;
    }
    Named set{.directory = directory, .manifest = *std::move(manifest)};
    absl::Status status = OfSet(directory, TakeHeld(how.partition, set));
    if (status.ok()) status = CheckSet(set, *sets, how.state_directory, how.max_batch_rows);
    findings.push_back({absl::StrCat("table set ", directory, ": ", set.manifest.name, " ",
                                     set.manifest.id, ", ", RowBytesText(set),
                                     " of rows; every file is there and as long as it should be"),
                        std::move(status)});
    sets->push_back(std::move(set));
  }
  return findings;
}

// About: which rows its columns have is known when it is linked. Of columns that were named it is
// not even known of how many they are.
uint64_t PartOfCheckpoint(const ServerConfig& config, uint64_t bytes) {
  if (!config.partition) return bytes;
  const auto* const index = std::get_if<PartitionIndex>(&*config.partition);
  return index == nullptr ? 0 : bytes / index->count;
}

Finding LookAtMemory(const ServerConfig& config, uint64_t bytes) {
  const AvailableMemory most = ReadMemoryLimit();
  const AvailableMemory now = ReadAvailableMemory();
  // As if they took all that is set aside, whoever else does.
  const uint64_t reserved = ReadReservedHugePageBytes();
  const uint64_t needed = bytes - std::min(bytes, reserved);
  Finding finding{absl::StrCat(
      "memory for ", ExactBytes(bytes), " of rows",
      most.limited_by.empty() ? ""
                              : absl::StrCat(": ", most.limited_by, " has ", ExactBytes(most.bytes),
                                             ", ", ExactBytes(now.bytes), " free now"),
      reserved == 0
          ? ""
          : absl::StrCat(", and ", ExactBytes(reserved), " of huge pages are set aside"))};
  if (config.memory_limit_bytes != 0 && bytes > config.memory_limit_bytes) {
    finding.status = absl::ResourceExhaustedError(absl::StrCat(
        "the table sets have ", ExactBytes(bytes), " of rows, more than ", "--memory-limit-bytes ",
        config.memory_limit_bytes, " lets: raise it, or serve fewer table sets"));
  } else if (needed > most.bytes) {
    finding.status = absl::ResourceExhaustedError(
        absl::StrCat("the table sets need ", ExactBytes(needed), " of memory, and ",
                     most.limited_by, " has ", ExactBytes(most.bytes),
                     ": raise the limit, reserve huge pages, or serve fewer table sets"));
  }
  return finding;
}

// What huge pages add, which nobody knows before they are asked for.
std::vector<Finding> NotesOnMemory(const ServerConfig& config, const std::vector<Named>& sets) {
  uint64_t most = 0;
  for (const Named& set : sets) {
    if (!set.held.empty()) most += MostResidentBytes(set.manifest, set.held);
  }
  const uint64_t limit =
      config.memory_limit_bytes != 0 ? config.memory_limit_bytes : ReadMemoryLimit().bytes;
  if (most <= limit) return {};
  return {{.what = absl::StrCat("on huge pages of 2 MiB, one or more a layer, the table sets take ",
                                "up to ", ExactBytes(most), ", more than the ", ExactBytes(limit),
                                " that they may: they may be refused when they are loaded"),
           .is_note = true}};
}

// `check` of each address that is bound when the tables are loaded. The HTTP pages' is bound
// before.
std::vector<Finding> LookAtAddresses(const ServerConfig& config,
                                     absl::Status (*check)(const ListenAddress&)) {
  std::vector<Finding> findings;
  const auto look = [&](absl::string_view flag, const ListenAddress& address) {
    // Of a TCP port there is nothing to be seen without taking it.
    if (!address.is_unix() && check == CheckSocketFolder) return;
    findings.push_back(
        {absl::StrCat(flag, " ", address.Text(), ": the socket's folder may be written to"),
         OfFlag(flag, check(address))});
  };
  for (const ListenAddress& address : config.listen) look("--listen", address);
  if (config.admin_grpc_listen) look("--admin-grpc-listen", *config.admin_grpc_listen);
  if (config.shm_socket.empty()) return findings;
  const absl::StatusOr<ListenAddress> shm =
      ParseListenAddress(absl::StrCat("unix:", config.shm_socket));
  const std::string flag = absl::StrCat("--shm-socket ", config.shm_socket);
  findings.push_back({absl::StrCat(flag, ": the socket's folder may be written to"),
                      OfFlag(flag, shm.ok() ? check(*shm) : shm.status())});
  return findings;
}

// What --allow says of names that no set has; `sets` are those of the configuration that could be
// read. Nothing where one could not: its name is not known.
std::vector<std::string> NotesOnAllowances(const ServerConfig& config,
                                           const std::vector<Named>& sets) {
  if (sets.size() < config.table_sets.size()) return {};
  std::vector<std::string> names;
  names.reserve(sets.size() + 1);
  for (const Named& set : sets) names.push_back(set.manifest.name);
  if (!config.checkpoint.empty()) {
    const absl::StatusOr<const Family*> family = FindFamily(config.family);
    if (!family.ok()) return {};
    names.emplace_back((*family)->name);
  }
  std::vector<std::string> notes;
  for (const Allowance& allowance : config.allow) {
    const std::string& set = allowance.table_set;
    if (set == "*" || std::find(names.begin(), names.end(), set) != names.end()) continue;
    notes.push_back(absl::StrCat(
        "--allow ", allowance.identity, "=", set,
        ": no table set of this name is served now; served: ", absl::StrJoin(names, ", ")));
  }
  return notes;
}

void Append(std::vector<Finding> more, std::vector<Finding>& findings) {
  std::move(more.begin(), more.end(), std::back_inserter(findings));
}

absl::StatusOr<std::vector<std::string>> WithWhatIsKept(const ServerConfig& config) {
  ENGRAM_ASSIGN_OR_RETURN(const std::unique_ptr<PublicationRecord> record,
                          PublicationRecord::Open(config.state_dir));
  std::vector<Publication> kept = record->List();
  // In place of the checkpoint's set, which is made when engramd starts.
  const absl::StatusOr<const Family*> family = FindFamily(config.family);
  if (!config.checkpoint.empty() && family.ok()) {
    std::erase_if(kept, [&](const Publication& one) { return one.name == (*family)->name; });
  }
  return WithPublications(config.table_sets, kept, /*log=*/nullptr);
}

// --state-dir; empty where there is none, or none that can be used, which is said.
std::string LookAtStateDirectory(const ServerConfig& config, std::vector<Finding>& findings) {
  if (config.state_dir.empty()) return "";
  std::error_code error;
  findings.push_back(
      {absl::StrCat("--state-dir ", config.state_dir,
                    std::filesystem::exists(config.state_dir, error) ? ": it may be written to"
                                                                     : ": it will be made"),
       CheckStateDirectory(config.state_dir)});
  return findings.back().status.ok() ? config.state_dir : "";
}

// Of the flags, or what was published since. The checkpoint's is looked at by itself.
std::vector<std::string> DirectoriesToServe(const ServerConfig& config,
                                            const std::string& state_directory,
                                            std::vector<Finding>& findings) {
  if (state_directory.empty() || config.ignore_recorded) return config.table_sets;
  absl::StatusOr<std::vector<std::string>> directories = WithWhatIsKept(config);
  if (directories.ok()) return *std::move(directories);
  findings.push_back({"publications kept in --state-dir", directories.status()});
  return config.table_sets;
}

}  // namespace

SetsToServe SetsOf(const ServerConfig& config) {
  return {config.state_dir, config.max_batch_rows, config.partition};
}

absl::Status CheckTableSets(absl::Span<const std::string> directories, const SetsToServe& how) {
  std::vector<Named> sets;
  for (const Finding& finding : LookAtTableSets(directories, how, &sets)) {
    ENGRAM_RETURN_IF_ERROR(finding.status);
  }
  return absl::OkStatus();
}

CheckpointSource SourceOf(const ServerConfig& config) {
  return {config.checkpoint, config.family, config.rows_per_head, config.token_map};
}

std::vector<Finding> CheckConfiguration(const ServerConfig& config) {
  std::vector<Finding> findings = LookAtSecurity(config);
  std::vector<Named> sets;
  const std::string state_directory = LookAtStateDirectory(config, findings);
  SetsToServe how = SetsOf(config);
  how.state_directory = state_directory;
  Append(LookAtTableSets(DirectoriesToServe(config, state_directory, findings), how, &sets),
         findings);
  uint64_t row_bytes = 0;
  if (!config.checkpoint.empty()) {
    const absl::StatusOr<uint64_t> bytes = LookAtCheckpoint(config, sets);
    if (bytes.ok()) row_bytes = PartOfCheckpoint(config, *bytes);
    findings.push_back({absl::StrCat("checkpoint ", config.checkpoint, ": its tables are those of ",
                                     config.family, ", ", ExactBytes(row_bytes), " of rows"),
                        bytes.status()});
  }
  for (std::string& note : NotesOnAllowances(config, sets)) {
    findings.push_back({.what = std::move(note), .is_note = true});
  }
  for (const Named& set : sets) row_bytes += set.row_bytes;
  // Where no set could be read nothing is known of what they take.
  if (row_bytes > 0) {
    findings.push_back(LookAtMemory(config, row_bytes));
    if (findings.back().status.ok()) Append(NotesOnMemory(config, sets), findings);
  }
  Append(LookAtAddresses(config, CheckSocketFolder), findings);
  return findings;
}

absl::StatusOr<std::vector<std::string>> CheckBeforeLoading(const ServerConfig& config) {
  std::vector<Finding> findings = LookAtSecurity(config);
  std::vector<Named> sets;
  Append(LookAtTableSets(config.table_sets, SetsOf(config), &sets), findings);
  if (!config.checkpoint.empty()) {
    findings.push_back({"the checkpoint's name and place", CheckCheckpointFits(config, sets)});
  }
  Append(LookAtAddresses(config, CheckCanListen), findings);
  for (const Finding& finding : findings) ENGRAM_RETURN_IF_ERROR(finding.status);
  return NotesOnAllowances(config, sets);
}

std::string FindingsText(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    if (!finding.status.ok()) continue;
    absl::StrAppend(&text, finding.is_note ? "note    " : "ok      ", MessageLine(finding.what),
                    "\n");
  }
  return text;
}

std::string FailuresText(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    if (finding.status.ok()) continue;
    absl::StrAppend(&text, "FAILED  ", MessageLine(finding.status.message()), "\n");
  }
  return text;
}

}  // namespace engram
