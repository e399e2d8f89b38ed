#include "server/security/access.h"

#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"
#include "server/base/log.h"

namespace engram {
namespace {

// How often the token file is looked at, while calls come.
constexpr absl::Duration kLookInterval = absl::Seconds(1);
// Ten thousand identities.
constexpr uint64_t kMaxTokenFileBytes = 1 << 20;
constexpr absl::string_view kBearer = "Bearer ";
// What editors of another system begin a file with: a mark of UTF-8, which says nothing, and those
// of UTF-16.
constexpr absl::string_view kUtf8Mark = "\xef\xbb\xbf";
constexpr absl::string_view kUtf16Marks[] = {"\xff\xfe", "\xfe\xff"};

std::vector<std::string> NamesOf(const grpc::AuthContext* connection) {
  std::vector<std::string> names;
  if (connection == nullptr) return names;
  for (const char* property : {"x509_subject_alternative_name", "x509_common_name"}) {
    for (const grpc::string_ref& name : connection->FindPropertyValues(property)) {
      // An authority may call nobody what a peer of a Unix socket is called.
      if (IsUnixIdentity({name.data(), name.size()})) continue;
      names.emplace_back(name.data(), name.size());
    }
    if (!names.empty()) break;
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

std::string UnixIdentity(uid_t uid) { return absl::StrCat(kUnixIdentity, ":", uid); }

bool IsUnixIdentity(absl::string_view identity) {
  return absl::ConsumePrefix(&identity, kUnixIdentity) &&
         (identity.empty() || identity.front() == ':');
}

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Create(
    Options options, std::shared_ptr<spdlog::logger> log, const Clock* clock) {
  std::unique_ptr<AccessControl> access(
      new AccessControl(std::move(options), std::move(log), clock));
  for (const Allowance& allowance : access->options_.allow) {
    access->allowed_[allowance.identity].push_back(allowance.table_set);
  }
  if (access->options_.token_file.empty()) return access;
  absl::StatusOr<std::pair<std::string, Tokens>> read = ReadTokens(access->options_.token_file);
  if (!read.ok()) return read.status();
  {
    MutexLock lock(access->mutex_);
    std::tie(access->tokens_text_, access->tokens_) = *std::move(read);
  }
  return access;
}

absl::Status AccessControl::CheckTokenFile(const std::string& path) {
  return ReadTokens(path).status();
}

absl::StatusOr<std::pair<std::string, AccessControl::Tokens>> AccessControl::ReadTokens(
    const std::string& path) {
  absl::StatusOr<std::string> text = ReadWholeFile(path, kMaxTokenFileBytes);
  if (!text.ok()) return text.status();
  absl::StatusOr<Tokens> tokens = ParseTokens(*text);
  if (!tokens.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ":", tokens.status().message()));
  }
  return std::make_pair(*std::move(text), *std::move(tokens));
}

absl::StatusOr<AccessControl::Tokens> AccessControl::ParseTokens(absl::string_view text) {
  for (const absl::string_view mark : kUtf16Marks) {
    if (absl::StartsWith(text, mark)) {
      return absl::InvalidArgumentError("1: it is UTF-16: write it as ASCII or UTF-8");
    }
  }
  absl::ConsumePrefix(&text, kUtf8Mark);
  Tokens tokens;
  int line_number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++line_number;
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (words.empty() || words[0][0] == '#') continue;
    if (words.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(line_number, ": write IDENTITY TOKEN, a token a line"));
    }
    if (IsUnixIdentity(words[0])) {
      return absl::InvalidArgumentError(absl::StrCat(
          line_number, ": ", QuoteForMessage(words[0]),
          " is what peers of Unix sockets are called: give the token another identity"));
    }
    // The token itself is never shown.
    if (words[1].size() < kMinTokenBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(line_number, ": the token of ", QuoteForMessage(words[0]), " has less than ",
                       kMinTokenBytes, " characters: it could be guessed"));
    }
    if (!tokens.emplace(Sha256Hex(words[1]), words[0]).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          line_number, ": the token of ", QuoteForMessage(words[0]), " stands in a line before"));
    }
  }
  if (tokens.empty()) return absl::InvalidArgumentError("1: it has no token");
  return tokens;
}

void AccessControl::ReadAgain() {
  const MonotonicTime now = clock_->Now();
  int64_t next = next_look_.load(std::memory_order_relaxed);
  if (now.nanoseconds() < next ||
      !next_look_.compare_exchange_strong(next, (now + kLookInterval).nanoseconds())) {
    return;
  }
  TakeTokens(ReadTokens(options_.token_file), /*asked_for=*/false);
}

void AccessControl::ReadNow() {
  if (options_.token_file.empty()) return;
  TakeTokens(ReadTokens(options_.token_file), /*asked_for=*/true);
}

void AccessControl::TakeTokens(absl::StatusOr<std::pair<std::string, Tokens>> read,
                               bool asked_for) {
  MutexLock lock(mutex_);
  if (!read.ok()) {
    const bool was_told = std::exchange(read_failed_, true);
    if (was_told && !asked_for) return;
    LogEvent(
        *log_, spdlog::level::err, "tokens_refused",
        {{"file", options_.token_file}, {"code", absl::StatusCodeToString(read.status().code())}},
        absl::StrCat(read.status().message(), "; the tokens read before stay"));
    return;
  }
  read_failed_ = false;
  const bool changed = read->first != tokens_text_;
  if (!changed && !asked_for) return;
  std::tie(tokens_text_, tokens_) = *std::move(read);
  LogEvent(*log_, spdlog::level::info, "tokens_read",
           {{"file", options_.token_file}, {"tokens", tokens_.size()}},
           absl::StrCat("read ", options_.token_file, " again: ", tokens_.size(), " tokens",
                        changed ? "" : ", unchanged"));
  if (changed) tokens_read_.fetch_add(1);
}

absl::StatusOr<std::string> AccessControl::IdentityOf(const std::string& digest) {
  MutexLock lock(mutex_);
  const auto token = tokens_.find(digest);
  if (token != tokens_.end()) return token->second;
  return absl::UnauthenticatedError(
      "the call's bearer token is not one that engramd knows: is it an old one? (engramd "
      "--token-file, the client's --token-file)");
}

absl::StatusOr<Caller> AccessControl::ByToken(const Metadata& metadata) {
  ReadAgain();
  const auto entry = metadata.find("authorization");
  const absl::string_view value =
      entry == metadata.end() ? absl::string_view()
                              : absl::string_view(entry->second.data(), entry->second.size());
  if (!absl::StartsWith(value, kBearer)) {
    return absl::UnauthenticatedError(
        "engramd wants a bearer token and the call has none: give the client one (--token-file)");
  }
  Caller caller;
  caller.token_digest = Sha256Hex(value.substr(kBearer.size()));
  caller.tokens_read = tokens_read_.load();
  ENGRAM_ASSIGN_OR_RETURN(std::string identity, IdentityOf(caller.token_digest));
  caller.names.push_back(std::move(identity));
  return caller;
}

std::optional<std::string> UnixPeer(const grpc::ServerContextBase& context) {
  std::string peer = context.peer();
  if (!absl::StartsWith(peer, "unix:")) return std::nullopt;
  // A name that is no number is the socket's own.
  uid_t uid = 0;
  if (!absl::SimpleAtoi(absl::string_view(peer).substr(5), &uid)) return kUnixIdentity;
  return peer;
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::ServerContextBase& context) {
  return Authenticate(context.auth_context().get(), context.client_metadata(),
                      [&] { return UnixPeer(context); });
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::AuthContext& connection,
                                                   const Metadata& metadata) {
  return Authenticate(&connection, metadata, [] { return std::nullopt; });
}

absl::StatusOr<Caller> AccessControl::Authenticate(
    const grpc::AuthContext* connection, const Metadata& metadata,
    absl::FunctionRef<std::optional<std::string>()> unix_peer) {
  const bool asks = !allowed_.empty() || !options_.only.empty();
  std::vector<std::string> certificate;
  if (asks || options_.certificates_suffice) certificate = NamesOf(connection);
  const bool suffices = options_.certificates_suffice && !certificate.empty() &&
                        metadata.find("authorization") == metadata.end();
  Caller caller;
  if (!options_.token_file.empty() && !suffices) {
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
                                      const Metadata& metadata) {
  std::vector<std::string> names;
  if (!options_.token_file.empty()) {
    if (absl::StatusOr<Caller> caller = ByToken(metadata); caller.ok()) names = caller->names;
  }
  for (std::string& name : NamesOf(connection)) {
    if (!absl::c_linear_search(names, name)) names.push_back(std::move(name));
  }
  return QuoteForMessage(absl::StrJoin(names, "+"));
}

absl::Status AccessControl::Recheck(Caller& caller) {
  if (options_.token_file.empty()) return absl::OkStatus();
  ReadAgain();
  const uint64_t read = tokens_read_.load(std::memory_order_relaxed);
  if (caller.tokens_read == read) return absl::OkStatus();
  ENGRAM_ASSIGN_OR_RETURN(std::string identity, IdentityOf(caller.token_digest));
  caller.names = {std::move(identity)};
  caller.tokens_read = read;
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
