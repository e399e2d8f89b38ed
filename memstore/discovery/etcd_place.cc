#include "memstore/discovery/etcd_place.h"

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "memstore/discovery/host_and_port.h"

namespace engram {
namespace {

absl::Status Wrong(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what,
                   ": write HOST:PORT[,HOST:PORT...]/PREFIX, the addresses of one etcd and "
                   "what the keys of the cluster's stores begin with"));
}

}  // namespace

std::string EtcdPlace::KeyPrefix() const { return absl::StrCat(prefix, "/"); }

std::string EtcdPlace::KeyRangeEnd() const {
  std::string end = KeyPrefix();
  ++end.back();
  return end;
}

bool EtcdPlace::IsLoopback() const {
  return absl::c_all_of(endpoints,
                        [](const std::string& one) { return IsLoopbackHost(HostOf(one)); });
}

std::string EtcdPlace::Text() const {
  return absl::StrCat(absl::StrJoin(endpoints, ","), "/", prefix);
}

absl::StatusOr<EtcdPlace> ParseEtcdPlace(absl::string_view text) {
  const size_t slash = text.find('/');
  if (slash == absl::string_view::npos) return Wrong("it has no prefix");
  EtcdPlace place;
  for (const absl::string_view endpoint : absl::StrSplit(text.substr(0, slash), ',')) {
    if (!IsHostAndPort(endpoint)) return Wrong(absl::StrCat("\"", endpoint, "\" is no HOST:PORT"));
    if (absl::c_linear_search(place.endpoints, endpoint)) {
      return Wrong(absl::StrCat(endpoint, " is given twice"));
    }
    place.endpoints.emplace_back(endpoint);
  }
  if (place.endpoints.size() > kMaxEtcdEndpoints) {
    return Wrong(absl::StrCat("it has more than ", kMaxEtcdEndpoints, " addresses"));
  }
  absl::string_view prefix = text.substr(slash + 1);
  while (absl::ConsumeSuffix(&prefix, "/")) {
  }
  if (prefix.empty()) return Wrong("it has no prefix");
  const auto is_graph = [](unsigned char c) { return absl::ascii_isgraph(c); };
  if (prefix.size() > kMaxEtcdPrefixBytes || !absl::c_all_of(prefix, is_graph)) {
    return Wrong(absl::StrCat("the prefix is not 1 to ", kMaxEtcdPrefixBytes,
                              " printable characters of ASCII without blanks"));
  }
  place.prefix = std::string(prefix);
  return place;
}

}  // namespace engram
