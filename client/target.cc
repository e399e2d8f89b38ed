#include "client/target.h"

#include <sys/un.h>

#include <optional>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// Of a name or an address; an underscore is in names of containers, a percent sign in an address's
// scope. A slash is a URL's, a blank nobody's.
bool IsOfHost(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '_' ||
         c == ':' || c == '%' || c == '[' || c == ']' || !absl::ascii_isascii(c);
}

// HOST:PORT, with the host of an IPv6 address in brackets.
bool IsHostAndPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  const absl::string_view host = text.substr(0, colon);
  if (host.find(':') != absl::string_view::npos && (host.front() != '[' || host.back() != ']')) {
    return false;
  }
  if (!absl::c_all_of(host, IsOfHost)) return false;
  // SimpleAtoi takes blanks and signs.
  if (!absl::c_all_of(text.substr(colon + 1), absl::ascii_isdigit)) return false;
  int port = 0;
  return absl::SimpleAtoi(text.substr(colon + 1), &port) && port > 0 && port <= 65535;
}

// One that begins with a blank is a slip behind the colon.
bool IsPath(absl::string_view path) { return !path.empty() && !absl::ascii_isspace(path.front()); }

bool IsSocketPath(absl::string_view path) {
  return IsPath(path) && path.size() < sizeof(sockaddr_un::sun_path);
}

std::optional<Target> Parse(absl::string_view text) {
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "embedded:") && IsPath(rest)) {
    return Target{Target::Kind::kEmbedded, std::string(rest)};
  }
  // What is reached over gRPC first, if only to set the rest up.
  constexpr std::pair<absl::string_view, Target::Kind> kOverGrpc[] = {
      {"grpc:", Target::Kind::kGrpc},
      {"rdma:", Target::Kind::kRdma},
      {"auto:", Target::Kind::kAuto}};
  for (const auto& [prefix, kind] : kOverGrpc) {
    rest = text;
    if (!absl::ConsumePrefix(&rest, prefix)) continue;
    absl::string_view path = rest;
    if (absl::ConsumePrefix(&path, "unix:") ? IsSocketPath(path) : IsHostAndPort(rest)) {
      return Target{kind, std::string(rest)};
    }
  }
  rest = text;
  if (absl::ConsumePrefix(&rest, "shm:") && IsSocketPath(rest)) {
    return Target{Target::Kind::kShm, std::string(rest)};
  }
  return std::nullopt;
}

// The form that was meant, where that can be told.
std::string Meant(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> kind =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  absl::string_view place = absl::StripAsciiWhitespace(kind.second);
  if (absl::ConsumePrefix(&place, "//")) {
    absl::ConsumePrefix(&place, kind.first == "dns" ? "/" : "");  // dns:///host:port
    place = absl::StripSuffix(place, "/");
  }
  absl::string_view scheme = absl::StripAsciiWhitespace(kind.first);
  // What is HTTP/2 or under it, in others' words.
  for (const absl::string_view word : {"http", "https", "h2", "h2c", "tcp", "dns"}) {
    if (scheme == word) scheme = "grpc";
  }
  if (scheme == "unix") scheme = "grpc:unix";
  const std::string meant = absl::StrCat(scheme, ":", place);
  return meant != text && Parse(meant) ? absl::StrCat("did you mean ", meant, "? ") : "";
}

}  // namespace

absl::StatusOr<Target> ParseTarget(absl::string_view text) {
  if (std::optional<Target> target = Parse(text)) return *std::move(target);
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a target: ", Meant(text),
                   "write embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, "
                   "shm:SOCKET (a path of at most 107 characters), rdma:HOST:PORT or "
                   "auto:HOST:PORT"));
}

}  // namespace engram
