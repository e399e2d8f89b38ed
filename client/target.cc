#include "client/target.h"

#include <sys/un.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// HOST:PORT, with the host of an IPv6 address in brackets.
bool IsHostAndPort(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos || colon == 0) return false;
  const absl::string_view host = text.substr(0, colon);
  if (host.find(':') != absl::string_view::npos && (host.front() != '[' || host.back() != ']')) {
    return false;
  }
  int port = 0;
  return absl::SimpleAtoi(text.substr(colon + 1), &port) && port > 0 && port <= 65535;
}

bool IsSocketPath(absl::string_view path) {
  return !path.empty() && path.size() < sizeof(sockaddr_un::sun_path);
}

}  // namespace

absl::StatusOr<Target> ParseTarget(absl::string_view text) {
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "embedded:") && !rest.empty()) {
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
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text,
                   "\" is not a target: write embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, "
                   "shm:SOCKET (a path of at most 107 characters), rdma:HOST:PORT or "
                   "auto:HOST:PORT"));
}

}  // namespace engram
