// Who calls, and what they may have.
//
// Identities come from bearer tokens (token_file.h), else from client certificates: their subject
// alternative names, or the common name of one that has none. A token lends its holder nothing that
// his certificate's names do not have: where a caller shows both, both need the right. Peers of a
// Unix socket without a token are "unix:UID" where their user is known, else "unix"; what "unix"
// may have, every one of them may, and who may connect there is the socket's affair. No token and
// no certificate has such a name. Thread-safe. What is asked for each batch costs a comparison or
// two where nothing is restricted.
#pragma once

#include <grpcpp/server_context.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/security/options.h"
#include "server/security/token_file.h"
#include "server/security/unix_identity.h"

namespace engram {

// What a caller over a Unix socket is called, "unix:1000" (server/net/socket_watch.h), or "unix"
// where nobody told; nothing for all others.
std::optional<std::string> UnixPeer(const grpc::ServerContextBase& context);

// Who made a call, for as long as it lasts.
struct Caller {
  // Any of them gives a right. None where nobody is asked.
  std::vector<std::string> names = {};
  // Of the certificate beside a token that said `names`: any of them has to have the right as well.
  // None where there is no such certificate.
  std::vector<std::string> certificate_names = {};
  std::string token_digest = {};  // where a token said so
  uint64_t tokens_version = 0;    // of the tokens that said so
};

class AccessControl {
 public:
  using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;
  struct Options {
    const TokenFile* tokens = nullptr;  // null: calls need none; outlives the control
    // Whether a caller whose certificate names him needs no token.
    bool certificates_suffice = false;
    std::vector<Allowance> allow = {};  // empty: all who may call may have all
    // Where not empty, only these may call: the admin service's.
    std::vector<std::string> only = {};
  };
  explicit AccessControl(Options options);

  // UNAUTHENTICATED: no token, or one that is not known. PERMISSION_DENIED: not one of `only`.
  absl::StatusOr<Caller> Authenticate(const grpc::ServerContextBase& context) const;
  // The same before there is a call, over TCP.
  absl::StatusOr<Caller> Authenticate(const grpc::AuthContext& connection,
                                      const Metadata& metadata) const;
  // What a caller is called by what he shows, for the log, whatever he may: the name of his token
  // where it is known, and those of his certificate. Quoted; empty where he shows nothing.
  std::string NameForLog(const grpc::AuthContext* connection, const Metadata& metadata) const;
  // For calls that last: whether its token still holds. UNAUTHENTICATED.
  absl::Status Recheck(Caller& caller) const;
  // PERMISSION_DENIED names both.
  absl::Status MayHave(const Caller& caller, absl::string_view table_set) const;

 private:
  absl::StatusOr<std::string> IdentityOf(const std::string& digest) const;
  absl::StatusOr<Caller> ByToken(const Metadata& metadata) const;
  bool HasAllowance(const std::vector<std::string>& names, absl::string_view table_set) const;
  absl::StatusOr<Caller> Authenticate(
      const grpc::AuthContext* connection, const Metadata& metadata,
      absl::FunctionRef<std::optional<std::string>()> unix_peer) const;

  const Options options_;
  absl::flat_hash_map<std::string, std::vector<std::string>> allowed_;  // identity: table sets
};

}  // namespace engram
