#include "server/security/access.h"

#include <tuple>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/sha256.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/posix_file.h"

namespace engram {
namespace {

// How often the token file is looked at, while calls come.
constexpr absl::Duration kLookInterval = absl::Seconds(1);
// Ten thousand identities.
constexpr uint64_t kMaxTokenFileBytes = 1 << 20;
// Shorter ones can be guessed; 16 bytes in base64 have 22 characters.
constexpr size_t kMinTokenBytes = 16;
constexpr absl::string_view kBearer = "Bearer ";

std::vector<std::string> NamesOf(const grpc::AuthContext* connection) {
  std::vector<std::string> names;
  if (connection == nullptr) return names;
  for (const char* property : {"x509_subject_alternative_name", "x509_common_name"}) {
    for (const grpc::string_ref& name : connection->FindPropertyValues(property)) {
      names.emplace_back(name.data(), name.size());
    }
    if (!names.empty()) break;
  }
  return names;
}

std::string Named(const Caller& caller) {
  return caller.names.empty() ? "who has no identity"
                              : QuoteForMessage(absl::StrJoin(caller.names, " or "));
}

}  // namespace

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
  absl::StatusOr<std::pair<std::string, Tokens>> read = ReadTokens(options_.token_file);
  MutexLock lock(mutex_);
  if (!read.ok()) {
    if (!std::exchange(read_failed_, true)) {
      log_->error("{}; the tokens read before stay", std::string(read.status().message()));
    }
    return;
  }
  read_failed_ = false;
  if (read->first == tokens_text_) return;
  std::tie(tokens_text_, tokens_) = *std::move(read);
  log_->info("read {} again: {} tokens", options_.token_file, tokens_.size());
  tokens_read_.fetch_add(1);
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

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::ServerContextBase& context) {
  return Authenticate(context.auth_context().get(), context.client_metadata(),
                      [&] { return absl::StartsWith(context.peer(), "unix:"); });
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::AuthContext& connection,
                                                   const Metadata& metadata) {
  return Authenticate(&connection, metadata, [] { return false; });
}

absl::StatusOr<Caller> AccessControl::Authenticate(const grpc::AuthContext* connection,
                                                   const Metadata& metadata,
                                                   absl::FunctionRef<bool()> over_unix) {
  Caller caller;
  if (!options_.token_file.empty()) {
    ENGRAM_ASSIGN_OR_RETURN(caller, ByToken(metadata));
  } else if (!allowed_.empty() || !options_.only.empty()) {
    caller.names = NamesOf(connection);
    if (caller.names.empty() && over_unix()) caller.names.emplace_back(kUnixIdentity);
  }
  if (options_.only.empty()) return caller;
  for (const std::string& name : caller.names) {
    if (absl::c_linear_search(options_.only, name)) return caller;
  }
  return absl::PermissionDeniedError(
      absl::StrCat(Named(caller), " may not administer: --admin-identity lists who may"));
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

absl::Status AccessControl::MayHave(const Caller& caller, absl::string_view table_set) const {
  if (allowed_.empty()) return absl::OkStatus();
  for (const std::string& name : caller.names) {
    const auto sets = allowed_.find(name);
    if (sets == allowed_.end()) continue;
    for (const std::string& set : sets->second) {
      if (set == "*" || set == table_set) return absl::OkStatus();
    }
  }
  return absl::PermissionDeniedError(absl::StrCat(Named(caller), " may not have table set ",
                                                  QuoteForMessage(table_set),
                                                  ": engramd's --allow lists who may"));
}

}  // namespace engram
