#include "server/config/config.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <initializer_list>
#include <set>
#include <system_error>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/check.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/parallel_gather.h"
#include "server/config/cluster_config.h"
#include "server/config/config_fields.h"
#include "server/security/unix_identity.h"

namespace engram {
namespace {

using google::protobuf::FieldDescriptor;

// All that is wrong, in the order in which it was found. What could not be understood is left out
// of the configuration, so that what is looked at later does not say the same once more.
using Faults = std::vector<absl::Status>;

void Refuse(absl::string_view where, absl::string_view why, Faults* faults) {
  faults->push_back(absl::InvalidArgumentError(absl::StrCat(where, " ", why)));
}

// False where it is not.
bool CheckRange(const ConfigLayers& layers, absl::string_view field, uint64_t value, uint64_t least,
                uint64_t most, Faults* faults) {
  if (value >= least && value <= most) return true;
  Refuse(layers.Where(field), absl::StrCat(value, " is not between ", least, " and ", most),
         faults);
  return false;
}

// False where it is none of them.
bool CheckWord(const ConfigLayers& layers, absl::string_view field, int index,
               absl::string_view value, std::initializer_list<absl::string_view> words,
               Faults* faults) {
  if (absl::c_linear_search(words, value)) return true;
  Refuse(layers.Where(field, index),
         absl::StrCat(value, " is none of ", absl::StrJoin(words, ", ")), faults);
  return false;
}

// Operators read it, and publish it again, from wherever they are. As it was given where there is
// no telling: an empty one, or a working directory that is gone.
std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : absolute.string();
}

void TakeCheckpoint(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  config->checkpoint = given.checkpoint();
  config->family = given.family();
  config->rows_per_head = given.rows_per_head();
  config->token_map = given.token_map();
  if (config->checkpoint.empty()) {
    for (const auto& [field, is_given] : {std::pair("family", !config->family.empty()),
                                          std::pair("rows_per_head", config->rows_per_head > 0),
                                          std::pair("token_map", !config->token_map.empty())}) {
      if (is_given) Refuse(layers.Where(field), "is of no use without --checkpoint DIR", faults);
    }
    return;
  }
  const absl::StatusOr<const Family*> family = FindFamily(config->family);
  if (config->family.empty()) {
    Refuse(layers.Where("checkpoint"),
           absl::StrCat("needs --family NAME, the model's: ", FamilyNames()), faults);
  } else if (!family.ok()) {
    Refuse(absl::StrCat(layers.Where("family"), ":"), family.status().message(), faults);
  }
  if (!CheckRange(layers, "rows_per_head", config->rows_per_head, 0, kMaxLayerRows, faults) ||
      !family.ok()) {
    config->checkpoint.clear();
  }
}

void TakeTables(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  if (given.table_set().empty() && given.checkpoint().empty()) {
    faults->push_back(absl::InvalidArgumentError(
        "no table set to serve: give --table-set DIR, or --checkpoint DIR and --family NAME for a "
        "released model"));
  }
  for (const std::string& set : given.table_set()) config->table_sets.push_back(Absolute(set));
  config->state_dir = Absolute(given.state_dir());
  config->ignore_recorded = given.ignore_recorded();
  if (config->ignore_recorded && config->state_dir.empty()) {
    Refuse(layers.Where("ignore_recorded"), "is of no use without --state-dir DIR", faults);
  }
  TakeCheckpoint(layers, config, faults);
}

void TakeListen(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  if (given.listen().empty() && given.shm_socket().empty()) {
    faults->push_back(absl::InvalidArgumentError(
        "no address to listen on: give --listen HOST:PORT, --listen unix:PATH, or --shm-socket "
        "PATH for clients of this machine alone"));
  }
  std::set<std::string> seen;
  for (int i = 0; i < given.listen_size(); ++i) {
    const std::string& text = given.listen(i);
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) {
      Refuse(layers.Where("listen", i), address.status().message(), faults);
      continue;
    }
    // Port 0 is another port each time.
    if (address->port != "0" && !seen.insert(text).second) {
      Refuse(layers.Where("listen", i), absl::StrCat(text, " is given twice"), faults);
      continue;
    }
    config->listen.push_back(*std::move(address));
  }
}

void TakeNumbers(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  config->memory_limit_bytes = given.memory_limit_bytes();
  config->load_threads = given.load_threads();
  if (given.has_gather_threads()) config->gather_threads = given.gather_threads();
  config->gather_ahead = given.gather_ahead();
  config->lookup_threads = given.lookup_threads();
  if (given.has_spin_us()) config->spin = std::chrono::microseconds(given.spin_us());
  if (given.has_max_batch_rows()) config->max_batch_rows = given.max_batch_rows();
  if (given.has_lame_duck_s()) config->lame_duck = std::chrono::seconds(given.lame_duck_s());
  if (given.has_drain_grace_s()) config->drain_grace = std::chrono::seconds(given.drain_grace_s());
  if (given.has_retire_grace_s()) {
    config->retire_grace = std::chrono::seconds(given.retire_grace_s());
  }
  if (given.has_scrub_mib_per_s()) config->scrub_mib_per_s = given.scrub_mib_per_s();
  const auto count = [](auto duration) { return static_cast<uint64_t>(duration.count()); };
  const auto check = [&](absl::string_view field, uint64_t value, uint64_t least, uint64_t most) {
    return CheckRange(layers, field, value, least, most, faults);
  };
  check("load_threads", config->load_threads, 0, kMaxLoadThreads);
  check("gather_threads", config->gather_threads, 1, GatherTeam::kMaxThreads);
  check("gather_ahead", config->gather_ahead, 0, kMostAheadRows);
  check("lookup_threads", config->lookup_threads, 0, kMaxLookupThreads);
  check("spin_us", count(config->spin), 0, count(kMaxSpin));
  if (!check("max_batch_rows", config->max_batch_rows, 1, kMostBatchRows)) {
    config->max_batch_rows = kDefaultMaxBatchRows;
  }
  check("lame_duck_s", count(config->lame_duck), 0, count(kMaxGrace));
  check("drain_grace_s", count(config->drain_grace), 0, count(kMaxGrace));
  check("retire_grace_s", count(config->retire_grace), 0, count(kMaxGrace));
  check("scrub_mib_per_s", config->scrub_mib_per_s, 0, kMaxScrubMibPerS);
}

void TakeNuma(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const std::string& text = layers.config().numa();
  if (text.empty()) return;
  const absl::StatusOr<NumaPolicy> numa = ParseNumaPolicy(text);
  const absl::Status status = numa.ok() ? CheckNumaPolicy(*numa) : numa.status();
  if (status.ok()) {
    config->numa = *numa;
    return;
  }
  faults->emplace_back(status.code(),
                       absl::StrCat(layers.Where("numa"), " ", text, ": ", status.message()));
}

void TakeShm(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  config->shm_allow_uids.assign(given.shm_allow_uid().begin(), given.shm_allow_uid().end());
  const std::string& path = given.shm_socket();
  if (path.empty()) {
    if (config->shm_allow_uids.empty()) return;
    return Refuse(layers.Where("shm_allow_uid"), "is of no use without --shm-socket PATH", faults);
  }
  const absl::StatusOr<ListenAddress> address = ParseListenAddress(absl::StrCat("unix:", path));
  if (!address.ok()) {
    return Refuse(layers.Where("shm_socket"), address.status().message(), faults);
  }
  for (const ListenAddress& other : config->listen) {
    if (other.unix_path != path) continue;
    return Refuse(layers.Where("shm_socket"), absl::StrCat(path, " is a --listen address, too"),
                  faults);
  }
  config->shm_socket = path;
}

void TakeRdma(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  for (int i = 0; i < given.rdma_device_size(); ++i) {
    absl::StatusOr<RdmaDeviceChoice> choice = ParseRdmaDeviceChoice(given.rdma_device(i));
    if (!choice.ok()) {
      Refuse(layers.Where("rdma_device", i), choice.status().message(), faults);
      continue;
    }
    const bool is_named = absl::c_any_of(config->rdma_devices, [&](const RdmaDeviceChoice& other) {
      return other.device == choice->device && other.port == choice->port;
    });
    if (is_named) {
      Refuse(layers.Where("rdma_device", i),
             absl::StrCat(given.rdma_device(i), " names the same port as another"), faults);
      continue;
    }
    config->rdma_devices.push_back(*std::move(choice));
  }
  if (given.rdma_device_size() > 0 && given.listen().empty()) {
    Refuse(layers.Where("rdma_device", 0),
           "is of no use without --listen HOST:PORT, by which clients set RDMA up", faults);
  }
  config->rdma_read = given.rdma_read();
  if (!config->rdma_read || given.rdma_device_size() > 0) return;
  Refuse(layers.Where("rdma_read"), "is of no use without --rdma-device DEV", faults);
}

void TakeAdmin(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  const auto take = [&](const char* field, const std::string& text, bool unix_too,
                        std::optional<ListenAddress>* to) {
    if (text.empty()) return;
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) return Refuse(layers.Where(field), address.status().message(), faults);
    if (address->is_unix() && !unix_too) {
      return Refuse(layers.Where(field), absl::StrCat(text, ": give HOST:PORT"), faults);
    }
    for (const ListenAddress& other : config->listen) {
      if (address->port == "0" || other.Text() != text) continue;
      return Refuse(layers.Where(field), absl::StrCat(text, " is a --listen address, too"), faults);
    }
    *to = *std::move(address);
  };
  take("admin_listen", given.admin_listen(), false, &config->admin_listen);
  take("admin_grpc_listen", given.admin_grpc_listen(), true, &config->admin_grpc_listen);
  if (given.has_log_format()) {
    CheckWord(layers, "log_format", 0, given.log_format(), {"text", "json"}, faults);
    config->log_json = given.log_format() == "json";
  }
  if (!given.has_log_level()) return;
  config->log_level = given.log_level();
  CheckWord(layers, "log_level", 0, config->log_level, {"debug", "info", "warn", "error"}, faults);
}

// Files of which one makes no sense without another are left out, as if none were given; false.
bool TakeTls(const ConfigLayers& layers, const std::string& prefix, TlsFiles* files,
             Faults* faults) {
  if (files->cert.empty() != files->key.empty()) {
    const bool has_cert = files->key.empty();
    Refuse(layers.Where(absl::StrCat(prefix, has_cert ? "tls_cert" : "tls_key")),
           absl::StrCat("is of no use without ",
                        FlagName(absl::StrCat(prefix, has_cert ? "tls_key" : "tls_cert"))),
           faults);
  } else if (!files->on() && !files->client_ca.empty()) {
    Refuse(layers.Where(absl::StrCat(prefix, "tls_client_ca")),
           absl::StrCat("is of no use without ", FlagName(absl::StrCat(prefix, "tls_cert"))),
           faults);
  } else {
    return true;
  }
  *files = {};
  return false;
}

// What an --allow may name as an identity: any name that a caller can have.
absl::Status CheckIdentity(absl::string_view identity) {
  if (identity == "*") {
    return absl::InvalidArgumentError(
        "gives everybody a set, and * is no identity: name each one that may have it (for callers "
        "of Unix sockets: unix), or leave --allow out");
  }
  if (!absl::StartsWith(identity, "unix:") || NamesUnixUser(identity)) return absl::OkStatus();
  return absl::InvalidArgumentError("is of no user: write unix:UID with a number (id -u), or unix");
}

void TakeAllowances(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  for (int i = 0; i < given.allow_size(); ++i) {
    const std::vector<std::string> parts = absl::StrSplit(given.allow(i), '=');
    if (parts.size() != 2 || parts[0].empty() || parts[1].empty()) {
      Refuse(layers.Where("allow", i), absl::StrCat(given.allow(i), " is not IDENTITY=TABLE-SET"),
             faults);
      continue;
    }
    if (const absl::Status status = CheckIdentity(parts[0]); !status.ok()) {
      Refuse(layers.Where("allow", i), absl::StrCat(given.allow(i), " ", status.message()), faults);
      continue;
    }
    config->allow.push_back({parts[0], parts[1]});
  }
  config->token_file = given.token_file();
  config->unix_allow_uids.assign(given.unix_allow_uid().begin(), given.unix_allow_uid().end());
  // Without them nobody has an identity over TCP, and the list would turn all away there.
  const bool has_tcp = absl::c_any_of(
      config->listen, [](const ListenAddress& address) { return !address.is_unix(); });
  if (config->allow.empty() || !has_tcp || !config->token_file.empty() ||
      !given.tls_client_ca().empty()) {
    return;
  }
  Refuse(layers.Where("allow"),
         "is of no use without --tls-client-ca or --token-file: they say who calls", faults);
}

void TakeAdminIdentities(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  if (given.admin_grpc_listen().empty()) {
    // What is empty says nothing, as in a file that --print-config wrote.
    for (const auto& [field, is_given] :
         {std::pair("admin_tls_cert", !given.admin_tls_cert().empty()),
          std::pair("admin_tls_key", !given.admin_tls_key().empty()),
          std::pair("admin_tls_client_ca", !given.admin_tls_client_ca().empty()),
          std::pair("admin_identity", given.admin_identity_size() > 0)}) {
      if (!is_given) continue;
      Refuse(layers.Where(field), "is of no use without --admin-grpc-listen ADDRESS", faults);
    }
  }
  for (int i = 0; i < given.admin_identity_size(); ++i) {
    const std::string& identity = given.admin_identity(i);
    if (!identity.empty() && identity != "*") continue;
    Refuse(layers.Where("admin_identity", i),
           absl::StrCat("\"", identity, "\" names nobody: give the name in an operator's ",
                        "certificate, or beside a token"),
           faults);
  }
  config->admin_identities.assign(given.admin_identity().begin(), given.admin_identity().end());
}

// Those of operators' port that are not given are those of --listen; false as TakeTls.
bool TakeAdminTls(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  config->admin_tls = {given.admin_tls_cert(), given.admin_tls_key(), given.admin_tls_client_ca()};
  if (config->admin_tls.cert.empty() && config->admin_tls.key.empty()) {
    config->admin_tls.cert = config->tls.cert;
    config->admin_tls.key = config->tls.key;
  }
  if (config->admin_tls.client_ca.empty()) config->admin_tls.client_ca = config->tls.client_ca;
  return TakeTls(layers, "admin_", &config->admin_tls, faults);
}

// What is said in the clear, or to anyone, stays on this machine unless it is asked for.
void CheckPlaintext(const ConfigLayers& layers, const ServerConfig& config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  std::set<std::string> allowed;
  bool understood = true;
  for (int i = 0; i < given.allow_plaintext_size(); ++i) {
    const std::string& port = given.allow_plaintext(i);
    understood =
        CheckWord(layers, "allow_plaintext", i, port, {"data", "admin", "admin-grpc"}, faults) &&
        understood;
    allowed.insert(port);
  }
  // Nobody knows which port was meant: that others are not allowed may be no fault.
  if (!understood) return;
  const auto check = [&](const char* field, int index, const ListenAddress& address, bool tls,
                         const char* port, absl::string_view fix) {
    if (tls || address.IsLocal() || allowed.contains(port)) return;
    Refuse(layers.Where(field, index),
           absl::StrCat(address.Text(),
                        " can be reached from other machines and would speak plain text: ", fix,
                        "--allow-plaintext ", port, " where the network is trusted"),
           faults);
  };
  for (size_t i = 0; i < config.listen.size(); ++i) {
    check("listen", static_cast<int>(i), config.listen[i], config.tls.on(), "data",
          "give --tls-cert and --tls-key, or ");
  }
  if (config.admin_listen) check("admin_listen", 0, *config.admin_listen, false, "admin", "give ");
  if (!config.admin_grpc_listen) return;
  check("admin_grpc_listen", 0, *config.admin_grpc_listen, config.admin_tls.on(), "admin-grpc",
        "give --admin-tls-cert and --admin-tls-key, or ");
}

void TakeSecurity(const ConfigLayers& layers, ServerConfig* config, Faults* faults) {
  const v1::ServerConfig& given = layers.config();
  TakeAdminIdentities(layers, config, faults);
  config->tls = {given.tls_cert(), given.tls_key(), given.tls_client_ca()};
  bool has_tls = TakeTls(layers, "", &config->tls, faults);
  // What operators' port has not of its own it lacks as --listen does, which was said.
  if (has_tls || !given.admin_tls_cert().empty() || !given.admin_tls_key().empty()) {
    has_tls = TakeAdminTls(layers, config, faults) && has_tls;
  }
  TakeAllowances(layers, config, faults);
  if (!has_tls) return;
  const bool admin_speaks_tls = config->admin_grpc_listen.has_value() &&
                                !config->admin_grpc_listen->is_unix() && config->admin_tls.on();
  if (admin_speaks_tls && config->admin_tls.client_ca.empty() && config->token_file.empty()) {
    Refuse(layers.Where("admin_grpc_listen"),
           "would let anyone administer: give --admin-tls-client-ca or --token-file", faults);
  } else if (admin_speaks_tls && given.admin_identity().empty()) {
    Refuse(layers.Where("admin_grpc_listen"),
           "speaks TLS and nobody may administer: give --admin-identity IDENTITY", faults);
  } else if (!admin_speaks_tls && config->admin_grpc_listen && !given.admin_identity().empty()) {
    Refuse(
        layers.Where("admin_identity"),
        "is of no use without TLS there (--admin-tls-cert, --tls-cert; on a Unix socket there is "
        "none): nobody is asked who he is, and whoever can connect may administer",
        faults);
  }
  CheckPlaintext(layers, *config, faults);
}

// Fields that are not set, and whose default is neither 0, nor empty.
void AddDefaults(v1::ServerConfig* config) {
  const ServerConfig defaults;
  if (!config->has_gather_threads()) config->set_gather_threads(defaults.gather_threads);
  if (!config->has_max_batch_rows()) config->set_max_batch_rows(defaults.max_batch_rows);
  if (!config->has_spin_us()) config->set_spin_us(static_cast<uint32_t>(defaults.spin.count()));
  if (!config->has_lame_duck_s()) {
    config->set_lame_duck_s(static_cast<uint32_t>(defaults.lame_duck.count()));
  }
  if (!config->has_drain_grace_s()) {
    config->set_drain_grace_s(static_cast<uint32_t>(defaults.drain_grace.count()));
  }
  if (!config->has_retire_grace_s()) {
    config->set_retire_grace_s(static_cast<uint32_t>(defaults.retire_grace.count()));
  }
  if (!config->has_scrub_mib_per_s()) config->set_scrub_mib_per_s(defaults.scrub_mib_per_s);
  if (!config->has_log_format()) config->set_log_format("text");
  if (!config->has_log_level()) config->set_log_level(defaults.log_level);
}

std::vector<EffectiveField> Effective(const ConfigLayers& layers) {
  v1::ServerConfig config = layers.config();
  AddDefaults(&config);
  std::vector<EffectiveField> effective;
  const auto& descriptor = *v1::ServerConfig::descriptor();
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& field = *descriptor.field(i);
    const int values = field.is_repeated() ? config.GetReflection()->FieldSize(config, &field) : 1;
    for (int value = 0; value < values; ++value) {
      EffectiveField& one = effective.emplace_back();
      one.name = field.name();
      one.source = layers.Source(field.name(), value);
      google::protobuf::TextFormat::PrintFieldValueToString(
          config, &field, field.is_repeated() ? value : -1, &one.value);
    }
    if (values == 0) effective.push_back({field.name(), "[]", "default"});
  }
  return effective;
}

ServerConfig Understand(const ConfigLayers& layers, Faults* faults) {
  ServerConfig config;
  for (const auto take : {TakeTables, TakeListen, TakeNumbers, TakeNuma, TakeShm, TakeRdma,
                          TakeAdmin, TakeSecurity}) {
    take(layers, &config, faults);
  }
  for (const auto take : {TakePartition, TakeZone, TakeRegistration}) {
    if (absl::Status status = take(layers, &config); !status.ok()) {
      faults->push_back(std::move(status));
    }
  }
  config.effective = Effective(layers);
  return config;
}

}  // namespace

std::string PrintConfig(absl::Span<const EffectiveField> fields) {
  std::string text;
  for (const EffectiveField& field : fields) {
    absl::StrAppend(&text, field.name, ": ", field.value, "  # ", field.source, "\n");
  }
  return text;
}

absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv,
                                             absl::Span<const char* const> environment) {
  const absl::StatusOr<ConfigLayers> layers = ConfigLayers::Read(argc, argv, environment);
  if (!layers.ok()) return layers.status();
  if (layers->action() == ConfigLayers::Action::kText) {
    return CommandLine{.text = layers->text()};
  }
  Faults faults = layers->faults();
  std::optional<ServerConfig> config;
  if (layers->is_whole()) config = Understand(*layers, &faults);
  if (layers->action() == ConfigLayers::Action::kCheck) {
    return CommandLine{.config = std::move(config), .check_only = true, .faults = faults};
  }
  if (!faults.empty()) return faults.front();
  ENGRAM_CHECK(config.has_value(), "nothing was understood, and there is no fault");
  if (layers->action() == ConfigLayers::Action::kPrint) {
    return CommandLine{.text = PrintConfig(config->effective)};
  }
  return CommandLine{.config = std::move(config)};
}

}  // namespace engram
