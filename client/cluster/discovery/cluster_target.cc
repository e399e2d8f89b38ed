#include "client/cluster/discovery/cluster_target.h"

#include <sys/un.h>

#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"
#include "memstore/discovery/host_and_port.h"

namespace engram {
namespace {

absl::Status Wrong(absl::string_view what, absl::string_view forms) {
  return absl::InvalidArgumentError(absl::StrCat(what, ": write ", forms));
}

bool IsAddress(absl::string_view text) {
  absl::string_view path = text;
  if (!absl::ConsumePrefix(&path, "unix:")) return IsHostAndPort(text);
  return !path.empty() && !absl::ascii_isspace(path.front()) &&
         path.size() < sizeof(sockaddr_un::sun_path);
}

absl::StatusOr<ClusterTarget> ParseDns(absl::string_view text) {
  if (!IsHostAndPort(text) || text.front() == '[') {
    return Wrong(absl::StrCat(QuoteForMessage(text), " is no name and port"),
                 "cluster:dns:NAME:PORT");
  }
  const absl::string_view name = HostOf(text);
  return ClusterTarget{.source = ClusterTarget::Source::kDns,
                       .name = std::string(name),
                       .port = std::string(text.substr(name.size() + 1))};
}

absl::StatusOr<ClusterTarget> ParseList(absl::string_view text) {
  ClusterTarget target{.source = ClusterTarget::Source::kList};
  std::set<std::string> seen;
  for (const absl::string_view given : absl::StrSplit(text, ',')) {
    const std::string address = absl::StrCat(absl::StartsWith(given, "/") ? "unix:" : "", given);
    if (!IsAddress(address)) {
      return Wrong(absl::StrCat("\"", QuoteForMessage(address), "\" is no address"),
                   kClusterTargetForms);
    }
    if (!seen.insert(address).second) {
      return Wrong(absl::StrCat(address, " is given twice"), "each address once");
    }
    target.addresses.push_back(address);
  }
  if (target.addresses.size() > kMaxListedAddresses) {
    return Wrong(absl::StrCat("more than ", kMaxListedAddresses, " addresses"),
                 "cluster:dns:NAME:PORT or cluster:etcd:HOST:PORT/PREFIX");
  }
  return target;
}

}  // namespace

absl::StatusOr<ClusterTarget> ParseClusterTarget(absl::string_view place) {
  absl::string_view rest = place;
  if (absl::ConsumePrefix(&rest, "dns:")) return ParseDns(rest);
  if (absl::ConsumePrefix(&rest, "etcd:")) {
    ENGRAM_ASSIGN_OR_RETURN(EtcdPlace etcd, ParseEtcdPlace(rest));
    return ClusterTarget{.source = ClusterTarget::Source::kEtcd, .etcd = std::move(etcd)};
  }
  return ParseList(place);
}

}  // namespace engram
