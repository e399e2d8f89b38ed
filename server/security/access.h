// Who calls, and what they may have.
//
// Identities come from bearer tokens (a file of lines "IDENTITY TOKEN", read again when it
// changes), else from client certificates: their subject alternative names, or the common name of
// one that has none. A token lends its holder nothing that his certificate's names do not have:
// where a caller shows both, both need the right. Peers of a Unix socket without a token are
// "unix:UID" where their user is known, else "unix"; what "unix" may have, every one of them may,
// and who may connect there is the socket's affair. No token and no certificate has such a name.
// Thread-safe. What is asked for each batch costs a comparison or two where nothing is restricted.
#pragma once

#include <grpcpp/server_context.h>
#include <spdlog/logger.h>
#include <sys/types.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "server/security/options.h"

namespace engram {

// What peers of a Unix socket are called whose user nobody told, and what begins the names of the
// others.
inline constexpr char kUnixIdentity[] = "unix";
std::string UnixIdentity(uid_t uid);  // "unix:1000"
// Whether it is a name of that kind: "unix", "unix:" and what follows.
bool IsUnixIdentity(absl::string_view identity);

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
  uint64_t tokens_read = 0;       // when: of AccessControl
};

class AccessControl {
 public:
  using Metadata = std::multimap<grpc::string_ref, grpc::string_ref>;
  struct Options {
    std::string token_file = {};  // empty: no tokens
    // Whether a caller whose certificate names him needs no token.
    bool certificates_suffice = false;
    std::vector<Allowance> allow = {};  // empty: all who may call may have all
    // Where not empty, only these may call: the admin service's.
    std::vector<std::string> only = {};
  };
  // INVALID_ARGUMENT (the system's code for a file that can't be read): the token file, with its
  // line. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Create(Options options,
                                                               std::shared_ptr<spdlog::logger> log,
                                                               const Clock* clock);
  // What Create would say of it.
  static absl::Status CheckTokenFile(const std::string& path);

  // UNAUTHENTICATED: no token, or one that is not known. PERMISSION_DENIED: not one of `only`.
  absl::StatusOr<Caller> Authenticate(const grpc::ServerContextBase& context);
  // The same before there is a call, over TCP.
  absl::StatusOr<Caller> Authenticate(const grpc::AuthContext& connection,
                                      const Metadata& metadata);
  // What a caller is called by what he shows, for the log, whatever he may: the name of his token
  // where it is known, and those of his certificate. Quoted; empty where he shows nothing.
  std::string NameForLog(const grpc::AuthContext* connection, const Metadata& metadata);
  // Reads the token file now, and logs what came of it, new or not.
  void ReadNow() ABSL_LOCKS_EXCLUDED(mutex_);
  // For calls that last: whether its token still holds. UNAUTHENTICATED.
  absl::Status Recheck(Caller& caller);
  // PERMISSION_DENIED names both.
  absl::Status MayHave(const Caller& caller, absl::string_view table_set) const;

 private:
  // By the token's SHA-256: looking one up says nothing about the others by the time it takes.
  using Tokens = absl::flat_hash_map<std::string, std::string>;

  AccessControl(Options options, std::shared_ptr<spdlog::logger> log, const Clock* clock)
      : options_(std::move(options)), log_(std::move(log)), clock_(clock) {}
  // INVALID_ARGUMENT: "LINE: WHAT".
  static absl::StatusOr<Tokens> ParseTokens(absl::string_view text);
  // The file's text and what it says.
  static absl::StatusOr<std::pair<std::string, Tokens>> ReadTokens(const std::string& path);
  void ReadAgain() ABSL_LOCKS_EXCLUDED(mutex_);
  void TakeTokens(absl::StatusOr<std::pair<std::string, Tokens>> read, bool asked_for)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::string> IdentityOf(const std::string& digest) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<Caller> ByToken(const Metadata& metadata);
  bool HasAllowance(const std::vector<std::string>& names, absl::string_view table_set) const;
  absl::StatusOr<Caller> Authenticate(const grpc::AuthContext* connection, const Metadata& metadata,
                                      absl::FunctionRef<std::optional<std::string>()> unix_peer);

  const Options options_;
  const std::shared_ptr<spdlog::logger> log_;
  const Clock* const clock_;
  absl::flat_hash_map<std::string, std::vector<std::string>> allowed_;  // identity: table sets
  Mutex mutex_;
  Tokens tokens_ ABSL_GUARDED_BY(mutex_);
  std::string tokens_text_ ABSL_GUARDED_BY(mutex_);  // what they were read from
  bool read_failed_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> tokens_read_{0};  // changes when they do
  std::atomic<int64_t> next_look_{0};     // nanoseconds of the clock
};

}  // namespace engram
