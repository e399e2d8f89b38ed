// Where in which etcd the stores of a cluster are registered: HOST:PORT[,HOST:PORT...]/PREFIX.
//
// A value and pure functions; thread-safe. Both ends read it: engramd's --register and a client's
// target.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct EtcdPlace {
  std::vector<std::string> endpoints;  // HOST:PORT each, at least one; all of one etcd
  std::string prefix;                  // without a slash at its end

  // What all keys of stores begin with, and no other key does.
  std::string KeyPrefix() const;
  // The first key behind all of those, as etcd's ranges take it.
  std::string KeyRangeEnd() const;
  // All endpoints are on this machine.
  bool IsLoopback() const;
  std::string Text() const;  // as it was written
};

// More endpoints than any etcd has members, and a prefix that leaves a key readable.
inline constexpr size_t kMaxEtcdEndpoints = 16;
inline constexpr size_t kMaxEtcdPrefixBytes = 200;

// The prefix is printable ASCII without blanks, and may begin with a slash (HOST:PORT//engram).
// INVALID_ARGUMENT says what is wrong and the form; `text` is named by the caller.
absl::StatusOr<EtcdPlace> ParseEtcdPlace(absl::string_view text);

}  // namespace engram
