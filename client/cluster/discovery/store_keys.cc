#include "client/cluster/discovery/store_keys.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "memstore/discovery/registered_store.h"

namespace engram {

void StoreKeys::Ignore(absl::string_view key, const absl::Status& why) {
  ++ignored_;
  if (told_.size() >= kMaxTold || told_.contains(key)) return;
  told_.emplace(key);
  on_ignored_(why);
}

void StoreKeys::Put(absl::string_view key, absl::string_view value) {
  const absl::StatusOr<RegisteredStore> store = ReadStore(place_, key, value);
  if (!store.ok()) {
    // What it said before holds no more.
    Delete(key);
    return Ignore(key, store.status());
  }
  const auto found = addresses_.find(key);
  if (found != addresses_.end()) {
    found->second = store->address;
  } else if (addresses_.size() < kMaxStores) {
    addresses_.emplace(key, store->address);
  } else {
    Ignore(key, absl::ResourceExhaustedError(
                    absl::StrCat("more than ", kMaxStores, " stores are registered under ",
                                 place_.prefix, ": the others are ignored")));
  }
}

void StoreKeys::Delete(absl::string_view key) {
  if (const auto found = addresses_.find(key); found != addresses_.end()) addresses_.erase(found);
}

std::vector<std::string> StoreKeys::Addresses() const {
  std::set<std::string> once;
  for (const auto& [key, address] : addresses_) once.insert(address);
  return {once.begin(), once.end()};
}

}  // namespace engram
