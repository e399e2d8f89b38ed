// Where a client learns the addresses of a cluster's stores, as a user writes it behind "cluster:":
// HOST:PORT,unix:PATH,/PATH,... (a list), dns:NAME:PORT, etcd:HOST:PORT[,HOST:PORT...]/PREFIX.
//
// A value and a pure function; thread-safe.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/discovery/etcd_place.h"

namespace engram {

struct ClusterTarget {
  enum class Source {
    kList,  // the addresses as they are, for good
    kDns,   // every A and AAAA record of `name`
    kEtcd,  // what stores registered there
  };
  Source source = Source::kList;
  std::vector<std::string> addresses = {};  // of kList: HOST:PORT or unix:PATH, each once
  std::string name = {};                    // of kDns
  std::string port = {};                    // of kDns
  EtcdPlace etcd = {};                      // of kEtcd
};

inline constexpr absl::string_view kClusterTargetForms =
    "cluster:HOST:PORT,unix:PATH,... (a list), cluster:dns:NAME:PORT or "
    "cluster:etcd:HOST:PORT[,HOST:PORT...]/PREFIX";

// More addresses than a command line is a place for.
inline constexpr size_t kMaxListedAddresses = 1024;

// `place`: what follows "cluster:". INVALID_ARGUMENT says what is wrong and the form to write.
absl::StatusOr<ClusterTarget> ParseClusterTarget(absl::string_view place);

}  // namespace engram
