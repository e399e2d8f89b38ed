// The keys under a cluster's prefix in etcd, and the addresses that they make.
//
// Keys and values are whoever's may write to etcd: what is no store's is passed over, counted, and
// told once for each key. Two stores at one address are one address, until both have gone. One
// thread's.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/discovery/etcd_place.h"

namespace engram {

class StoreKeys {
 public:
  // Far above any cluster; bounds what a foreign writer makes each client keep.
  static constexpr size_t kMaxStores = 10'000;
  // Of keys that are no store's, those that are told.
  static constexpr size_t kMaxTold = 16;

  StoreKeys(EtcdPlace place, std::function<void(const absl::Status&)> on_ignored)
      : place_(std::move(place)), on_ignored_(std::move(on_ignored)) {}

  // What is there now is all of it: Put for each follows.
  void Clear() { addresses_.clear(); }
  void Put(absl::string_view key, absl::string_view value);
  void Delete(absl::string_view key);

  std::vector<std::string> Addresses() const;  // ascending, each once
  uint64_t ignored() const { return ignored_; }

 private:
  void Ignore(absl::string_view key, const absl::Status& why);

  const EtcdPlace place_;
  const std::function<void(const absl::Status&)> on_ignored_;
  std::map<std::string, std::string, std::less<>> addresses_;  // by key
  std::set<std::string, std::less<>> told_;                    // keys
  uint64_t ignored_ = 0;
};

}  // namespace engram
