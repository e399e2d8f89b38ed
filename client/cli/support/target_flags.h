// What every command that talks to a target takes: --target, --set, --attach-timeout, --tls-...;
// and attaching.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "memstore/discovery/etcd_security.h"

namespace engram::cli {

struct TargetFlags {
  std::string target;
  std::string table_set;
  std::string attach_timeout = "30s";
  // bench alone has flags for these.
  std::string mode;
  uint32_t connections = 1;
  uint32_t streams = 1;
  uint32_t spin_us = 200;
  std::string rdma_mode;
  std::string rdma_device;
  SecurityOptions security;
  EtcdSecurity etcd;
  bool allow_unmasked_images = false;  // of who addresses tokens (token_flags.h)
};

// --tls-ca, --tls-cert, --tls-key, --tls-server-name, --tls-identity, --token-file and
// --traceparent.
void AddSecurityFlags(CLI::App& command, SecurityOptions* security);

// What the flags leave open, from the environment: ENGRAM_TLS_CA, ENGRAM_TLS_CERT, ENGRAM_TLS_KEY,
// ENGRAM_TLS_SERVER_NAME, ENGRAM_TLS_IDENTITIES and ENGRAM_TOKEN_FILE; a variable that is empty
// says nothing. For what is reached over gRPC: elsewhere they would be of no use, and flags are
// refused.
SecurityOptions WithEnvironment(SecurityOptions security);

// The same of --etcd-...: ENGRAM_ETCD_CA, ENGRAM_ETCD_CERT, ENGRAM_ETCD_KEY,
// ENGRAM_ETCD_SERVER_NAME, ENGRAM_ETCD_USER and ENGRAM_ETCD_PASSWORD_FILE. For targets
// cluster:etcd:... alone.
EtcdSecurity WithEnvironment(EtcdSecurity etcd);

// ENGRAM_ZONE, AttachOptions::zone; empty: no preference.
std::string ZoneFromEnvironment();

// "grpc:" and so on, for Suggest (memstore/program/flag_text.h).
std::vector<std::string> TargetKinds();

void AddTargetFlags(CLI::App& command, TargetFlags* flags);

// INVALID_ARGUMENT naming a flag that is of use over gRPC (rdma, auto and cluster are set up over
// it) alone, where none of `targets`, all that a command attaches to with these flags, is reached
// so: whoever gives --tls-ca believes that something is encrypted. Of --etcd-... the same, where
// none is found by etcd.
absl::Status CheckConnectionFlags(const TargetFlags& flags, absl::Span<const std::string> targets);

// kBadUsage for a target that is none, a mode that it has not, and a set that was not named where
// there are several; kFailed for anything else, such as a set that is not served there, as of
// `engram admin retire`, or a target that does not take even one token's rows.
int ExitCodeOfAttach(const absl::Status& failure);

// Client::Attach as the flags, whose target is a whole one, and the environment say. A host that
// nobody knows is not waited for. `*exit_code` is what a failure ends the command with:
// ExitCodeOfAttach, and kBadUsage for a timeout that is none.
absl::StatusOr<std::unique_ptr<Client>> AttachTo(const TargetFlags& flags, int* exit_code);

// INVALID_ARGUMENT when a batch of so many tokens, by their rows of `slice` in every layer, has
// more rows than the target takes; names the number that it does take.
absl::Status CheckBatchTokens(Client& client, const ColumnSlice& slice, uint64_t batch_tokens);
// The tokens of the largest batch that the target takes; at least 1 of one that AttachTo gave.
uint64_t MaxBatchTokens(Client& client, const ColumnSlice& slice);

}  // namespace engram::cli
