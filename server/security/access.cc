#include "server/security/access.h"

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

constexpr absl::string_view kBearer = "Bearer ";

std::vector<std::string> NamesOf(const grpc::AuthContext* connection) {
  std::vector<std::string> names;
  if (connection == nullptr) return names;
  for (const char* property : {"x509_subject_alternative_name", "x509_common_name"}) {
    const std::vector<grpc::string_ref> given = connection->FindPropertyValues(property);
    for (const grpc::string_ref& name : given) {
      // An authority may call nobody what a peer of a Unix socket is called.
      if (IsUnixIdentity({name.data(), name.size()})) continue;
      names.emplace_back(name.data(), name.size());
    }
    if (!given.empty()) break;  // though none of them counts
  }
  return names;
}

// In the place of the names of a certificate that has none which count: nobody is called so.
constexpr char kNameless[] = "";

bool ShowsCertificate(const grpc::AuthContext* connection) {
  return connection != nullptr && !connection->FindPropertyValues("x509_pem_cert").empty();
}

std::string Named(const std::vector<std::string>& names) {
  if (names.empty()) return "who has no identity";
  if (names.front() == kNameless) return "nobody";
  return QuoteForMessage(absl::StrJoin(names, " or "));
}

// Of a right that the names of the token, or of the certificate beside it, do not give.
std::string WhoLacks(const Caller& caller, bool by_names) {
  if (caller.certificate_names.empty()) return Named(caller.names);
  return by_names ? absl::StrCat(Named(caller.certificate_names),
                                 ", as the certificate beside the token of ", Named(caller.names),
                                 " says,")
                  : absl::StrCat(Named(caller.names), ", as the token says,");
}

}  // namespace

AccessControl::AccessControl(Options options) : options_(std::move(options)) {
  for (const Allowance& allowance : options_.allow) {
    allowed_[allowance.identity].push_back(allowance.table_set);
  }
}

absl::StatusOr<std::string> AccessControl::IdentityOf(const std::string& digest) const {
  if (std::optional<std::string> identity = options_.tokens->IdentityOf(digest)) {
    return *std::move(identity);
  }
  return absl::UnauthenticatedError(
      "the call's bearer token is not one that engramd knows: is it an old one? (engramd "
      "--token-file, the client's --token-file)");
}

absl::StatusOr<Caller> AccessControl::ByToken(const Metadata& metadata) const {
  const auto entry = metadata.find("authorization");
  const absl::string_view value =
      entry == metadata.end() ? absl::string_view()
                              : absl::string_view(entry->second.data(), entry->second.size());
  if (!absl::StartsWithIgnoreCase(value, kBearer)) {
    return absl::UnauthenticatedError(
        "engramd wants a bearer token and the call has none: give the client one (--token-file)");
  }
  Caller caller;
  caller.token_digest = Sha256Hex(value.substr(kBearer.size()));
  // Before the look: tokens that change meanwhile are looked at once more.
  caller.tokens_version = options_.tokens->version();
  ENGRAM_ASSIGN_OR_RETURN(std::string identity, IdentityOf(caller.token_digest));
  caller.names.push_back(std::move(identity));
  return caller;
}

std::optional<std::string> UnixPeer(const grpc::ServerContextBase& context) {
  std::string peer = context.peer();
  if (!absl::StartsWith(peer, "unix:")) return std::nullopt;
  // A name that is no number is the socket's own.
  if (!NamesUnixUser(peer)) return kUnixIdentity;
  return peer;
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::ServerContextBase& context) const {
  return Authenticate(context.auth_context().get(), context.client_metadata(),
                      [&] { return UnixPeer(context); });
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::AuthContext& connection,
                                                   const Metadata& metadata) const {
  return Authenticate(&connection, metadata, [] { return std::nullopt; });
}

absl::StatusOr<Caller> AccessControl::Authenticate(
    const grpc::AuthContext* connection, const Metadata& metadata,
    absl::FunctionRef<std::optional<std::string>()> unix_peer) const {
  const bool asks = !allowed_.empty() || !options_.only.empty();
  std::vector<std::string> certificate;
  if (asks || options_.certificates_suffice) certificate = NamesOf(connection);
  const bool suffices = options_.certificates_suffice && !certificate.empty() &&
                        metadata.find("authorization") == metadata.end();
  Caller caller;
  if (options_.tokens != nullptr && !suffices) {
    ENGRAM_ASSIGN_OR_RETURN(caller, ByToken(metadata));
    // One without a name has no rights, and is lent none.
    if (asks && certificate.empty() && ShowsCertificate(connection)) {
      certificate.emplace_back(kNameless);
    }
    caller.certificate_names = std::move(certificate);
  } else if (asks) {
    caller.names = std::move(certificate);
    if (caller.names.empty()) {
      if (std::optional<std::string> peer = unix_peer()) caller.names.push_back(*std::move(peer));
    }
  }
  if (options_.only.empty()) return caller;
  const auto listed = [&](const std::vector<std::string>& names) {
    return absl::c_any_of(
        names, [&](const std::string& name) { return absl::c_linear_search(options_.only, name); });
  };
  const bool by_names = listed(caller.names);
  if (by_names && (caller.certificate_names.empty() || listed(caller.certificate_names))) {
    return caller;
  }
  return absl::PermissionDeniedError(absl::StrCat(
      WhoLacks(caller, by_names), " may not administer: --admin-identity lists who may"));
}

std::string AccessControl::NameForLog(const grpc::AuthContext* connection,
                                      const Metadata& metadata) const {
  std::vector<std::string> names;
  if (options_.tokens != nullptr) {
    if (absl::StatusOr<Caller> caller = ByToken(metadata); caller.ok()) names = caller->names;
  }
  for (std::string& name : NamesOf(connection)) {
    if (!absl::c_linear_search(names, name)) names.push_back(std::move(name));
  }
  return QuoteForMessage(absl::StrJoin(names, "+"));
}

absl::Status AccessControl::Recheck(Caller& caller) const {
  // One whose certificate sufficed showed no token.
  if (options_.tokens == nullptr || caller.token_digest.empty()) return absl::OkStatus();
  const uint64_t version = options_.tokens->version();
  if (caller.tokens_version == version) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(std::string identity, IdentityOf(caller.token_digest));
  caller.names = {std::move(identity)};
  caller.tokens_version = version;
  return absl::OkStatus();
}

bool AccessControl::HasAllowance(const std::vector<std::string>& names,
                                 absl::string_view table_set) const {
  const auto has = [&](absl::string_view name) {
    const auto sets = allowed_.find(name);
    return sets != allowed_.end() && absl::c_any_of(sets->second, [&](const std::string& set) {
             return set == "*" || set == table_set;
           });
  };
  return absl::c_any_of(names, [&](const std::string& name) {
    return has(name) || (IsUnixIdentity(name) && has(kUnixIdentity));
  });
}

absl::Status AccessControl::MayHave(const Caller& caller, absl::string_view table_set) const {
  if (allowed_.empty()) return absl::OkStatus();
  const bool by_names = HasAllowance(caller.names, table_set);
  if (by_names &&
      (caller.certificate_names.empty() || HasAllowance(caller.certificate_names, table_set))) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat(WhoLacks(caller, by_names), " may not have table set ",
                   QuoteForMessage(table_set), ": engramd's --allow lists who may"));
}

}  // namespace engram
