#include "client/cli/support/target_flags.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/support/addresses.h"
#include "client/cli/support/command.h"
#include "client/cli/support/dense_rows.h"
#include "client/target.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/program/flag_text.h"

namespace engram::cli {
namespace {

// A table of a terabyte is loaded within hours; what is longer is a slip.
constexpr absl::Duration kMaxAttachTimeout = absl::Hours(24);

// "30s", "500ms", or a bare number of seconds.
absl::StatusOr<absl::Duration> ParseTimeout(const std::string& text) {
  absl::Duration timeout;
  double seconds = 0;
  const bool bare = absl::SimpleAtod(text, &seconds);
  if (bare) timeout = absl::Seconds(seconds);
  if ((!bare && !absl::ParseDuration(text, &timeout)) || !(timeout >= absl::ZeroDuration()) ||
      timeout > kMaxAttachTimeout) {
    return absl::InvalidArgumentError(
        absl::StrCat("--attach-timeout ", text, " is not a time of at most ",
                     absl::FormatDuration(kMaxAttachTimeout), ": write 30, 30s or 500ms"));
  }
  return timeout;
}

// Whether a flag is missing that only the owner's sets call for: there are several, and none was
// named. The owner's words tell it from a set that was named and is not there.
bool NeedsAChoice(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) &&
         absl::StrContains(status.message(), "name one of the table sets");
}

void TakeVariable(const char* name, std::string* value) {
  if (!value->empty()) return;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  if (const char* const given = std::getenv(name); given != nullptr) *value = given;
}

void AddTextFlag(CLI::App& command, const std::string& flag, std::string* value,
                 const std::string& help, const char* type) {
  command.add_option(flag, *value, help)->check(RefuseEmpty)->type_name(type);
}

void AddEtcdFlags(CLI::App& command, EtcdSecurity* etcd) {
  AddTextFlag(command, "--etcd-ca", &etcd->ca,
              "with cluster:etcd:...: speak TLS with an etcd whose certificate is of this "
              "authority, PEM (default: $ENGRAM_ETCD_CA; without that, and without --etcd-cert, "
              "--tls-ca, --tls-cert and --tls-key are etcd's as well)",
              "FILE");
  AddTextFlag(command, "--etcd-cert", &etcd->cert,
              "the certificate that is shown to etcd, PEM (default: $ENGRAM_ETCD_CERT)", "FILE");
  AddTextFlag(command, "--etcd-key", &etcd->key, "its private key, PEM (default: $ENGRAM_ETCD_KEY)",
              "FILE");
  AddTextFlag(command, "--etcd-server-name", &etcd->server_name,
              "the name in etcd's certificate (default: $ENGRAM_ETCD_SERVER_NAME, else the "
              "endpoint's host)",
              "NAME");
  AddTextFlag(command, "--etcd-user", &etcd->user,
              "user of etcd; needs TLS, or an etcd of this machine (default: $ENGRAM_ETCD_USER)",
              "NAME");
  AddTextFlag(command, "--etcd-password-file", &etcd->password_file,
              "holds that user's password and nothing else (default: "
              "$ENGRAM_ETCD_PASSWORD_FILE)",
              "FILE");
  GroupFlags(command, "etcd",
             {"--etcd-ca", "--etcd-cert", "--etcd-key", "--etcd-server-name", "--etcd-user",
              "--etcd-password-file"});
}

// The flag that was given in vain.
absl::Status OfNoUse(absl::string_view flag, absl::Span<const std::string> targets,
                     absl::string_view why, absl::string_view instead) {
  return absl::InvalidArgumentError(absl::StrCat(flag, " is of no use with ",
                                                 absl::StrJoin(targets, ", "), why,
                                                 ": leave it out, or give a target ", instead));
}

absl::Status CheckEtcdFlags(const EtcdSecurity& etcd, absl::Span<const std::string> targets) {
  const auto found_by_etcd = [](const std::string& target) {
    return absl::StartsWith(target, "cluster:etcd:");
  };
  if (absl::c_any_of(targets, found_by_etcd)) return absl::OkStatus();
  const std::pair<const char*, const std::string*> given[] = {
      {"--etcd-ca", &etcd.ca},     {"--etcd-cert", &etcd.cert},
      {"--etcd-key", &etcd.key},   {"--etcd-server-name", &etcd.server_name},
      {"--etcd-user", &etcd.user}, {"--etcd-password-file", &etcd.password_file},
  };
  for (const auto& [flag, value] : given) {
    if (value->empty()) continue;
    return OfNoUse(flag, targets, ", which no etcd is asked for", "cluster:etcd:HOST:PORT/PREFIX");
  }
  return absl::OkStatus();
}

}  // namespace

SecurityOptions WithEnvironment(SecurityOptions security) {
  TakeVariable("ENGRAM_TLS_CA", &security.tls_ca);
  TakeVariable("ENGRAM_TLS_CERT", &security.tls_cert);
  TakeVariable("ENGRAM_TLS_KEY", &security.tls_key);
  TakeVariable("ENGRAM_TLS_SERVER_NAME", &security.tls_server_name);
  TakeVariable("ENGRAM_TOKEN_FILE", &security.token_file);
  std::string identities;
  TakeVariable("ENGRAM_TLS_IDENTITIES", &identities);
  if (security.tls_identities.empty() && !identities.empty()) {
    security.tls_identities = absl::StrSplit(identities, ',');
  }
  return security;
}

EtcdSecurity WithEnvironment(EtcdSecurity etcd) {
  TakeVariable("ENGRAM_ETCD_CA", &etcd.ca);
  TakeVariable("ENGRAM_ETCD_CERT", &etcd.cert);
  TakeVariable("ENGRAM_ETCD_KEY", &etcd.key);
  TakeVariable("ENGRAM_ETCD_SERVER_NAME", &etcd.server_name);
  TakeVariable("ENGRAM_ETCD_USER", &etcd.user);
  TakeVariable("ENGRAM_ETCD_PASSWORD_FILE", &etcd.password_file);
  return etcd;
}

std::string ZoneFromEnvironment() {
  std::string zone;
  TakeVariable("ENGRAM_ZONE", &zone);
  return zone;
}

void AddSecurityFlags(CLI::App& command, SecurityOptions* security) {
  AddTextFlag(command, "--tls-ca", &security->tls_ca,
              "over gRPC: speak TLS with an engramd whose certificate is of this authority, PEM "
              "(default: $ENGRAM_TLS_CA)",
              "FILE");
  AddTextFlag(command, "--tls-cert", &security->tls_cert,
              "this client's certificate, PEM (default: $ENGRAM_TLS_CERT)", "FILE");
  AddTextFlag(command, "--tls-key", &security->tls_key,
              "its private key, PEM (default: $ENGRAM_TLS_KEY)", "FILE");
  AddTextFlag(command, "--tls-server-name", &security->tls_server_name,
              "the name in engramd's certificate (default: $ENGRAM_TLS_SERVER_NAME, else the "
              "target's host)",
              "NAME");
  command
      .add_option(
          "--tls-identity", security->tls_identities,
          "who engramd's certificate has to be of, in place of the target's host: DNS:NAME, "
          "URI:URI or URI:scheme://host/path/*; repeatable, any of them does (default: "
          "$ENGRAM_TLS_IDENTITIES, separated by commas)")
      ->check(RefuseEmpty)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
  AddTextFlag(command, "--traceparent", &security->traceparent,
              "W3C trace context to send along; engramd logs it with what fails", "TRACE");
  AddTextFlag(command, "--token-file", &security->token_file,
              "a file with a bearer token in it, of 16 characters or more (default: "
              "$ENGRAM_TOKEN_FILE)",
              "FILE");
  GroupFlags(command, "Security",
             {"--tls-ca", "--tls-cert", "--tls-key", "--tls-server-name", "--tls-identity",
              "--token-file", "--traceparent"});
}

std::vector<std::string> TargetKinds() {
  return {"auto:", "cluster:", "embedded:", "grpc:", "rdma:", "shm:"};
}

void AddTargetFlags(CLI::App& command, TargetFlags* flags) {
  command
      .add_option(
          "--target", flags->target,
          "where the rows are: embedded:DIR, shm:SOCKET, grpc:HOST:PORT, grpc:unix:PATH, "
          "rdma:HOST:PORT, or auto:HOST:PORT, which takes shm, rdma or grpc, the first that "
          "there is; of several stores cluster:HOST:PORT,..., cluster:dns:NAME:PORT or "
          "cluster:etcd:HOST:PORT/PREFIX; HOST:PORT alone is gRPC, and a socket's path what "
          "listens there (default: "
          "$ENGRAM_TARGET)")
      ->required()
      ->check(Suggest(TargetKinds()))
      ->envname("ENGRAM_TARGET")
      ->type_name("TARGET");
  command
      .add_option("--set", flags->table_set,
                  "name of the table set, its id or 12 of the id's first digits or more, where the "
                  "target serves several")
      ->check(RefuseEmpty)
      ->type_name("NAME|ID");
  command
      .add_option("--attach-timeout", flags->attach_timeout,
                  "how long to wait while the target is absent or loading, as in 30, 30s or 500ms "
                  "(default 30s, 24h at most)")
      ->type_name("TIME");
  command
      .add_option("--rdma-mode", flags->rdma_mode,
                  "over rdma: write (the default), the owner writes rows; read, the client reads "
                  "them by itself")
      ->check(CLI::IsMember({"write", "read"}));
  command
      .add_option("--rdma-device", flags->rdma_device,
                  "over rdma: this side's DEV[:PORT[:GID]] (default: the one that leads there)")
      ->check(RefuseEmpty)
      ->type_name("DEVICE");
  GroupFlags(command, "Target",
             {"--target", "--set", "--attach-timeout", "--rdma-mode", "--rdma-device"});
  AddSecurityFlags(command, &flags->security);
  AddEtcdFlags(command, &flags->etcd);
}

absl::Status CheckConnectionFlags(const TargetFlags& flags, absl::Span<const std::string> targets) {
  ENGRAM_RETURN_IF_ERROR(CheckEtcdFlags(flags.etcd, targets));
  for (const std::string& target : targets) {
    // What is no target at all is said of the target.
    if (!absl::StartsWith(target, "embedded:") && !absl::StartsWith(target, "shm:")) {
      return absl::OkStatus();
    }
  }
  const SecurityOptions& security = flags.security;
  const std::pair<const char*, bool> given[] = {
      {"--tls-ca", !security.tls_ca.empty()},
      {"--tls-cert", !security.tls_cert.empty()},
      {"--tls-key", !security.tls_key.empty()},
      {"--tls-server-name", !security.tls_server_name.empty()},
      {"--tls-identity", !security.tls_identities.empty()},
      {"--token-file", !security.token_file.empty()},
      {"--traceparent", !security.traceparent.empty()},
      {"--rdma-device", !flags.rdma_device.empty()},
      {"--connections", flags.connections != TargetFlags().connections},
      {"--streams", flags.streams != TargetFlags().streams},
  };
  for (const auto& [flag, is_given] : given) {
    if (!is_given) continue;
    return OfNoUse(flag, targets,
                   absl::StartsWith(targets[0], "embedded:")
                       ? ", whose rows are read in this process"
                       : ", whose rows are in shared memory",
                   "that is reached over gRPC (grpc:, rdma:, auto:, cluster:)");
  }
  return absl::OkStatus();
}

int ExitCodeOfAttach(const absl::Status& failure) {
  return absl::IsInvalidArgument(failure) || NeedsAChoice(failure) ? kBadUsage : kFailed;
}

absl::StatusOr<std::unique_ptr<Client>> AttachTo(const TargetFlags& flags, int* exit_code) {
  *exit_code = kBadUsage;
  const absl::StatusOr<absl::Duration> timeout = ParseTimeout(flags.attach_timeout);
  if (!timeout.ok()) return timeout.status();
  const absl::StatusOr<Target> target = ParseTarget(flags.target);
  const bool over_grpc =
      target.ok() && target->kind != Target::Kind::kEmbedded && target->kind != Target::Kind::kShm;
  const bool of_cluster = target.ok() && target->kind == Target::Kind::kCluster;
  // A cluster's addresses come and go, each by itself.
  if (over_grpc && !of_cluster) {
    if (absl::Status known = CheckHostIsKnown(target->place); !known.ok()) {
      *exit_code = kFailed;
      return known;
    }
  }
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Attach(
      flags.target, {.table_set = flags.table_set,
                     .timeout = *timeout,
                     .mode = flags.rdma_mode.empty() ? flags.mode : flags.rdma_mode,
                     .connections = flags.connections,
                     .streams = flags.streams,
                     .spin = absl::Microseconds(flags.spin_us),
                     .rdma_device = flags.rdma_device,
                     .zone = ZoneFromEnvironment(),
                     .allow_unmasked_images = flags.allow_unmasked_images,
                     .security = over_grpc ? WithEnvironment(flags.security) : flags.security,
                     .etcd = of_cluster ? WithEnvironment(flags.etcd) : flags.etcd});
  if (client.ok() && absl::StartsWith(flags.target, "auto:")) {
    std::fprintf(stderr, "%s\n", MessageLine((*client)->transport().Describe()).c_str());
  }
  if (client.ok()) {
    // Nothing that a command could be told would make a batch fit.
    *exit_code = kFailed;
    const uint64_t most_rows = (*client)->transport().capabilities().max_batch_rows;
    const uint64_t token_rows = TokenRows((*client)->table_set());
    if (most_rows >= token_rows) return client;
    return absl::FailedPreconditionError(
        absl::StrCat(flags.target, " takes ", most_rows, " rows a batch, and one token has ",
                     token_rows, ": start engramd with --max-batch-rows ", token_rows, " or more"));
  }
  *exit_code = ExitCodeOfAttach(client.status());
  if (!NeedsAChoice(client.status())) return client;
  return absl::FailedPreconditionError(
      absl::StrCat(client.status().message(), "; choose one with --set ID|NAME"));
}

uint64_t MaxBatchTokens(Client& client, const ColumnSlice& slice) {
  return client.transport().capabilities().max_batch_rows / TokenRows(client.table_set(), slice);
}

absl::Status CheckBatchTokens(Client& client, const ColumnSlice& slice, uint64_t batch_tokens) {
  const uint64_t most = MaxBatchTokens(client, slice);
  if (batch_tokens <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--batch-tokens ", batch_tokens, " is more than the target takes in one batch (",
      client.transport().capabilities().max_batch_rows, " rows): give at most ", most));
}

}  // namespace engram::cli
