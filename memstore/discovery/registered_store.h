// What a store's key in etcd is, and what it holds (proto/FORMATS.md, "Stores registered in etcd").
//
// Pure functions, thread-safe. Whoever may write to etcd chooses keys and values: what is read is
// checked, and messages show it escaped and shortened.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "memstore/discovery/etcd_place.h"

namespace engram {

struct RegisteredStore {
  std::string instance_id;  // a plain name
  std::string address;      // HOST:PORT
  friend bool operator==(const RegisteredStore&, const RegisteredStore&) = default;
};

// Room for an address and what later versions may add.
inline constexpr size_t kMaxStoreValueBytes = 4096;

std::string StoreKey(const EtcdPlace& place, absl::string_view instance_id);
std::string StoreValue(absl::string_view address);

// INVALID_ARGUMENT: it is no store's, and why.
absl::StatusOr<RegisteredStore> ReadStore(const EtcdPlace& place, absl::string_view key,
                                          absl::string_view value);

}  // namespace engram
