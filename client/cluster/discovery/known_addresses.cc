#include "client/cluster/discovery/known_addresses.h"

#include <algorithm>
#include <utility>

namespace engram {

std::vector<StoreAddress> KnownAddresses::addresses() const {
  MutexLock lock(mutex_);
  return addresses_;
}

absl::Status KnownAddresses::status() const {
  MutexLock lock(mutex_);
  return status_;
}

void KnownAddresses::Set(std::vector<StoreAddress> addresses) {
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  {
    MutexLock lock(mutex_);
    if (addresses == addresses_) return;
    addresses_ = addresses;
  }
  if (on_change_) on_change_(addresses);
}

void KnownAddresses::Fail(const absl::Status& why) {
  {
    MutexLock lock(mutex_);
    const bool is_news = status_.code() != why.code();
    status_ = why;
    if (!is_news) return;
  }
  Tell(why);
}

void KnownAddresses::Recover() {
  MutexLock lock(mutex_);
  status_ = absl::OkStatus();
}

void KnownAddresses::Tell(const absl::Status& problem) const {
  if (on_problem_) on_problem_(problem);
}

}  // namespace engram
