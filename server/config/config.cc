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
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/status_macros.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/parallel_gather.h"
#include "server/config/config_fields.h"
#include "server/config/register_config.h"

namespace engram {
namespace {

using google::protobuf::FieldDescriptor;

absl::Status Refuse(absl::string_view where, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(where, " ", why));
}

absl::Status CheckRange(const ConfigLayers& layers, absl::string_view field, uint64_t value,
                        uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return Refuse(layers.Where(field), absl::StrCat(value, " is not between ", least, " and ", most));
}

absl::Status CheckWord(const ConfigLayers& layers, absl::string_view field, int index,
                       absl::string_view value, std::initializer_list<absl::string_view> words) {
  for (const absl::string_view word : words) {
    if (value == word) return absl::OkStatus();
  }
  return Refuse(layers.Where(field, index),
                absl::StrCat(value, " is none of ", absl::StrJoin(words, ", ")));
}

// Operators read it, and publish it again, from wherever they are. As it was given where there is
// no telling: an empty one, or a working directory that is gone.
std::string Absolute(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return path.empty() || error ? path : absolute.string();
}

absl::Status TakeTables(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  if (given.table_set().empty() && given.checkpoint().empty()) {
    return absl::InvalidArgumentError(
        "no table set to serve: give --table-set DIR, or --checkpoint DIR and --family NAME for a "
        "released model");
  }
  for (const std::string& set : given.table_set()) config->table_sets.push_back(Absolute(set));
  config->checkpoint = given.checkpoint();
  config->family = given.family();
  config->rows_per_head = given.rows_per_head();
  config->token_map = given.token_map();
  config->state_dir = Absolute(given.state_dir());
  config->ignore_recorded = given.ignore_recorded();
  if (config->ignore_recorded && config->state_dir.empty()) {
    return Refuse(layers.Where("ignore_recorded"), "is of no use without --state-dir DIR");
  }
  if (config->checkpoint.empty()) {
    for (const auto& [field, is_given] : {std::pair("family", !config->family.empty()),
                                          std::pair("rows_per_head", config->rows_per_head > 0),
                                          std::pair("token_map", !config->token_map.empty())}) {
      if (is_given) return Refuse(layers.Where(field), "is of no use without --checkpoint DIR");
    }
    return absl::OkStatus();
  }
  if (config->family.empty()) {
    return Refuse(layers.Where("checkpoint"),
                  absl::StrCat("needs --family NAME, the model's: ", FamilyNames()));
  }
  if (const auto family = FindFamily(config->family); !family.ok()) {
    return Refuse(absl::StrCat(layers.Where("family"), ":"), family.status().message());
  }
  return CheckRange(layers, "rows_per_head", config->rows_per_head, 0, kMaxLayerRows);
}

absl::Status TakeListen(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  if (given.listen().empty() && given.shm_socket().empty()) {
    return absl::InvalidArgumentError(
        "no address to listen on: give --listen HOST:PORT, --listen unix:PATH, or --shm-socket "
        "PATH for clients of this machine alone");
  }
  std::set<std::string> seen;
  for (int i = 0; i < given.listen_size(); ++i) {
    const std::string& text = given.listen(i);
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) return Refuse(layers.Where("listen", i), address.status().message());
    // Port 0 is another port each time.
    if (address->port != "0" && !seen.insert(text).second) {
      return Refuse(layers.Where("listen", i), absl::StrCat(text, " is given twice"));
    }
    config->listen.push_back(*std::move(address));
  }
  return absl::OkStatus();
}

absl::Status TakeNumbers(const ConfigLayers& layers, ServerConfig* config) {
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
  for (const absl::Status& status : {
           CheckRange(layers, "load_threads", config->load_threads, 0, kMaxLoadThreads),
           CheckRange(layers, "gather_threads", config->gather_threads, 1, GatherTeam::kMaxThreads),
           CheckRange(layers, "gather_ahead", config->gather_ahead, 0, kMostAheadRows),
           CheckRange(layers, "lookup_threads", config->lookup_threads, 0, kMaxLookupThreads),
           CheckRange(layers, "spin_us", count(config->spin), 0, count(kMaxSpin)),
           CheckRange(layers, "max_batch_rows", config->max_batch_rows, 1, kMostBatchRows),
           CheckRange(layers, "lame_duck_s", count(config->lame_duck), 0, count(kMaxGrace)),
           CheckRange(layers, "drain_grace_s", count(config->drain_grace), 0, count(kMaxGrace)),
           CheckRange(layers, "retire_grace_s", count(config->retire_grace), 0, count(kMaxGrace)),
           CheckRange(layers, "scrub_mib_per_s", config->scrub_mib_per_s, 0, kMaxScrubMibPerS),
       }) {
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status TakeNuma(const ConfigLayers& layers, ServerConfig* config) {
  const std::string& text = layers.config().numa();
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<NumaPolicy> numa = ParseNumaPolicy(text);
  const absl::Status status = numa.ok() ? CheckNumaPolicy(*numa) : numa.status();
  if (!status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat(layers.Where("numa"), " ", text, ": ", status.message()));
  }
  config->numa = *numa;
  return absl::OkStatus();
}

absl::Status TakeShm(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  config->shm_socket = given.shm_socket();
  config->shm_allow_uids.assign(given.shm_allow_uid().begin(), given.shm_allow_uid().end());
  if (config->shm_socket.empty()) {
    if (config->shm_allow_uids.empty()) return absl::OkStatus();
    return Refuse(layers.Where("shm_allow_uid"), "is of no use without --shm-socket PATH");
  }
  const absl::StatusOr<ListenAddress> address =
      ParseListenAddress(absl::StrCat("unix:", config->shm_socket));
  if (!address.ok()) return Refuse(layers.Where("shm_socket"), address.status().message());
  for (const ListenAddress& other : config->listen) {
    if (other.unix_path != config->shm_socket) continue;
    return Refuse(layers.Where("shm_socket"),
                  absl::StrCat(config->shm_socket, " is a --listen address, too"));
  }
  return absl::OkStatus();
}

absl::Status TakeRdma(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  for (int i = 0; i < given.rdma_device_size(); ++i) {
    absl::StatusOr<RdmaDeviceChoice> choice = ParseRdmaDeviceChoice(given.rdma_device(i));
    if (!choice.ok()) return Refuse(layers.Where("rdma_device", i), choice.status().message());
    for (const RdmaDeviceChoice& other : config->rdma_devices) {
      if (other.device != choice->device || other.port != choice->port) continue;
      return Refuse(layers.Where("rdma_device", i),
                    absl::StrCat(given.rdma_device(i), " names a port that another names, too"));
    }
    config->rdma_devices.push_back(*std::move(choice));
  }
  if (!config->rdma_devices.empty() && config->listen.empty()) {
    return Refuse(layers.Where("rdma_device", 0),
                  "is of no use without --listen HOST:PORT, "
                  "by which clients set RDMA up");
  }
  config->rdma_read = given.rdma_read();
  if (!config->rdma_read || !config->rdma_devices.empty()) return absl::OkStatus();
  return Refuse(layers.Where("rdma_read"), "is of no use without --rdma-device DEV");
}

absl::Status TakeAdmin(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  const auto take = [&](const char* field, const std::string& text, bool unix_too,
                        std::optional<ListenAddress>* to) {
    if (text.empty()) return absl::OkStatus();
    absl::StatusOr<ListenAddress> address = ParseListenAddress(text);
    if (!address.ok()) return Refuse(layers.Where(field), address.status().message());
    if (address->is_unix() && !unix_too) {
      return Refuse(layers.Where(field), absl::StrCat(text, ": give HOST:PORT"));
    }
    for (const ListenAddress& other : config->listen) {
      if (address->port == "0" || other.Text() != text) continue;
      return Refuse(layers.Where(field), absl::StrCat(text, " is a --listen address, too"));
    }
    *to = *std::move(address);
    return absl::OkStatus();
  };
  for (const absl::Status& status :
       {take("admin_listen", given.admin_listen(), false, &config->admin_listen),
        take("admin_grpc_listen", given.admin_grpc_listen(), true, &config->admin_grpc_listen)}) {
    if (!status.ok()) return status;
  }
  if (given.has_log_format()) {
    absl::Status status = CheckWord(layers, "log_format", 0, given.log_format(), {"text", "json"});
    if (!status.ok()) return status;
    config->log_json = given.log_format() == "json";
  }
  if (!given.has_log_level()) return absl::OkStatus();
  config->log_level = given.log_level();
  return CheckWord(layers, "log_level", 0, config->log_level, {"debug", "info", "warn", "error"});
}

absl::Status TakeTls(const ConfigLayers& layers, const std::string& prefix, TlsFiles* files) {
  if (files->cert.empty() != files->key.empty()) {
    const bool has_cert = files->key.empty();
    return Refuse(layers.Where(absl::StrCat(prefix, has_cert ? "tls_cert" : "tls_key")),
                  absl::StrCat("is of no use without ",
                               FlagName(absl::StrCat(prefix, has_cert ? "tls_key" : "tls_cert"))));
  }
  if (files->on() || files->client_ca.empty()) return absl::OkStatus();
  return Refuse(layers.Where(absl::StrCat(prefix, "tls_client_ca")),
                absl::StrCat("is of no use without ", FlagName(absl::StrCat(prefix, "tls_cert"))));
}

// What an --allow may name as an identity: any name that a caller can have.
absl::Status CheckIdentity(absl::string_view identity) {
  if (identity == "*") {
    return absl::InvalidArgumentError(
        "gives everybody a set, and * is no identity: name each one that may have it (for callers "
        "of Unix sockets: unix), or leave --allow out");
  }
  absl::string_view uid = identity;
  uint32_t number = 0;
  if (!absl::ConsumePrefix(&uid, "unix:") || absl::SimpleAtoi(uid, &number)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("is of no user: write unix:UID with a number (id -u), or unix");
}

absl::Status TakeAllowances(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  for (int i = 0; i < given.allow_size(); ++i) {
    const std::vector<std::string> parts = absl::StrSplit(given.allow(i), '=');
    if (parts.size() != 2 || parts[0].empty() || parts[1].empty()) {
      return Refuse(layers.Where("allow", i),
                    absl::StrCat(given.allow(i), " is not IDENTITY=TABLE-SET"));
    }
    if (const absl::Status status = CheckIdentity(parts[0]); !status.ok()) {
      return Refuse(layers.Where("allow", i), absl::StrCat(given.allow(i), " ", status.message()));
    }
    config->allow.push_back({parts[0], parts[1]});
  }
  config->token_file = given.token_file();
  config->unix_allow_uids.assign(given.unix_allow_uid().begin(), given.unix_allow_uid().end());
  // Without them nobody has an identity over TCP, and the list would turn all away there.
  const bool has_tcp = absl::c_any_of(
      config->listen, [](const ListenAddress& address) { return !address.is_unix(); });
  if (config->allow.empty() || !has_tcp || !config->token_file.empty() ||
      !config->tls.client_ca.empty()) {
    return absl::OkStatus();
  }
  return Refuse(layers.Where("allow"),
                "is of no use without --tls-client-ca or --token-file: they say who calls");
}

absl::Status TakeAdminIdentities(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  if (!config->admin_grpc_listen) {
    // What is empty says nothing, as in a file that --print-config wrote.
    for (const auto& [field, is_given] :
         {std::pair("admin_tls_cert", !given.admin_tls_cert().empty()),
          std::pair("admin_tls_key", !given.admin_tls_key().empty()),
          std::pair("admin_tls_client_ca", !given.admin_tls_client_ca().empty()),
          std::pair("admin_identity", given.admin_identity_size() > 0)}) {
      if (!is_given) continue;
      return Refuse(layers.Where(field), "is of no use without --admin-grpc-listen ADDRESS");
    }
  }
  for (int i = 0; i < given.admin_identity_size(); ++i) {
    const std::string& identity = given.admin_identity(i);
    if (!identity.empty() && identity != "*") continue;
    return Refuse(layers.Where("admin_identity", i),
                  absl::StrCat("\"", identity, "\" names nobody: give the name in an operator's ",
                               "certificate, or beside a token"));
  }
  config->admin_identities.assign(given.admin_identity().begin(), given.admin_identity().end());
  return absl::OkStatus();
}

absl::Status TakeSecurity(const ConfigLayers& layers, ServerConfig* config) {
  const v1::ServerConfig& given = layers.config();
  ENGRAM_RETURN_IF_ERROR(TakeAdminIdentities(layers, config));
  config->tls = {given.tls_cert(), given.tls_key(), given.tls_client_ca()};
  ENGRAM_RETURN_IF_ERROR(TakeTls(layers, "", &config->tls));
  config->admin_tls = {given.admin_tls_cert(), given.admin_tls_key(), given.admin_tls_client_ca()};
  if (config->admin_tls.cert.empty() && config->admin_tls.key.empty()) {
    config->admin_tls.cert = config->tls.cert;
    config->admin_tls.key = config->tls.key;
  }
  if (config->admin_tls.client_ca.empty()) config->admin_tls.client_ca = config->tls.client_ca;
  if (absl::Status status = TakeTls(layers, "admin_", &config->admin_tls); !status.ok()) {
    return status;
  }
  ENGRAM_RETURN_IF_ERROR(TakeAllowances(layers, config));
  const bool admin_speaks_tls = config->admin_grpc_listen.has_value() &&
                                !config->admin_grpc_listen->is_unix() && config->admin_tls.on();
  if (!admin_speaks_tls) return absl::OkStatus();
  if (config->admin_tls.client_ca.empty() && config->token_file.empty()) {
    return Refuse(layers.Where("admin_grpc_listen"),
                  "would let anyone administer: give --admin-tls-client-ca or --token-file");
  }
  if (!config->admin_identities.empty()) return absl::OkStatus();
  return Refuse(layers.Where("admin_grpc_listen"),
                "speaks TLS and nobody may administer: give --admin-identity IDENTITY");
}

// What is said in the clear, or to anyone, stays on this machine unless it is asked for.
absl::Status CheckPlaintext(const ConfigLayers& layers, const ServerConfig& config) {
  const v1::ServerConfig& given = layers.config();
  std::set<std::string> allowed;
  for (int i = 0; i < given.allow_plaintext_size(); ++i) {
    const std::string& port = given.allow_plaintext(i);
    absl::Status status =
        CheckWord(layers, "allow_plaintext", i, port, {"data", "admin", "admin-grpc"});
    if (!status.ok()) return status;
    allowed.insert(port);
  }
  const auto check = [&](const char* field, int index, const ListenAddress& address, bool tls,
                         const char* port, absl::string_view fix) {
    if (tls || address.IsLocal() || allowed.contains(port)) return absl::OkStatus();
    return Refuse(layers.Where(field, index),
                  absl::StrCat(address.Text(),
                               " can be reached from other machines and would speak plain text: ",
                               fix, "--allow-plaintext ", port, " where the network is trusted"));
  };
  for (size_t i = 0; i < config.listen.size(); ++i) {
    absl::Status status = check("listen", static_cast<int>(i), config.listen[i], config.tls.on(),
                                "data", "give --tls-cert and --tls-key, or ");
    if (!status.ok()) return status;
  }
  if (config.admin_listen) {
    absl::Status status = check("admin_listen", 0, *config.admin_listen, false, "admin", "give ");
    if (!status.ok()) return status;
  }
  if (!config.admin_grpc_listen) return absl::OkStatus();
  return check("admin_grpc_listen", 0, *config.admin_grpc_listen, config.admin_tls.on(),
               "admin-grpc", "give --admin-tls-cert and --admin-tls-key, or ");
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

absl::StatusOr<ServerConfig> Understand(const ConfigLayers& layers) {
  ServerConfig config;
  for (const auto take : {TakeTables, TakeListen, TakeNumbers, TakeNuma, TakeShm, TakeRdma,
                          TakeAdmin, TakeSecurity, TakeRegistration}) {
    ENGRAM_RETURN_IF_ERROR(take(layers, &config));
  }
  ENGRAM_RETURN_IF_ERROR(CheckPlaintext(layers, config));
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
    return CommandLine{.config = std::nullopt, .text = layers->text()};
  }
  absl::StatusOr<ServerConfig> config = Understand(*layers);
  if (!config.ok()) return config.status();
  if (layers->action() == ConfigLayers::Action::kPrint) {
    return CommandLine{.config = std::nullopt, .text = PrintConfig(config->effective)};
  }
  return CommandLine{.config = *std::move(config),
                     .check_only = layers->action() == ConfigLayers::Action::kCheck,
                     .text = {}};
}

}  // namespace engram
