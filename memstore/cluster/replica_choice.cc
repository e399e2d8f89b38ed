#include "memstore/cluster/replica_choice.h"

#include <algorithm>
#include <tuple>

#include "memstore/base/splitmix64.h"

namespace engram {

uint64_t HashOfInstance(absl::string_view instance_id) {
  uint64_t hash = instance_id.size();
  for (const char c : instance_id) hash = SplitMix64Mix(hash ^ static_cast<unsigned char>(c));
  return hash;
}

void ReplicaChoice::Keep(absl::Span<const Replica> usable) {
  const auto before = [this](const Replica& a, const Replica& b) {
    // The store's number last: two of one hash have an order, too.
    return std::tuple(a.Rank(), ~SplitMix64Mix(client_hash_ ^ a.hash), a.store) <
           std::tuple(b.Rank(), ~SplitMix64Mix(client_hash_ ^ b.hash), b.store);
  };
  count_ = 0;
  for (const Replica& replica : usable) {
    size_t place = count_;
    while (place > 0 && before(replica, kept_[place - 1])) --place;
    if (place == kKept) continue;
    count_ = std::min(count_ + 1, kKept);
    for (size_t i = count_ - 1; i > place; --i) kept_[i] = kept_[i - 1];
    kept_[place] = replica;
  }
}

}  // namespace engram
