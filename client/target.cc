#include "client/target.h"

#include <sys/un.h>

#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cluster/discovery/cluster_target.h"
#include "memstore/discovery/host_and_port.h"

namespace engram {
namespace {

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
  rest = text;
  if (absl::ConsumePrefix(&rest, "cluster:") && ParseClusterTarget(rest).ok()) {
    return Target{Target::Kind::kCluster, std::string(rest)};
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
  absl::string_view cluster = text;
  if (absl::ConsumePrefix(&cluster, "cluster:")) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a target: ", ParseClusterTarget(cluster).status().message()));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not a target: ", Meant(text),
                   "write embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, "
                   "shm:SOCKET (a path of at most 107 characters), rdma:HOST:PORT, "
                   "auto:HOST:PORT, or, for several stores, ",
                   kClusterTargetForms));
}

}  // namespace engram
