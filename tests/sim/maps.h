// What workers make of what they heard: which set the name means, and a map of each set.
//
// Workers that heard the same share it: a map is immutable, and a simulation has one thread. So its
// splitter is shared, too.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/scheme.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/cluster/set_names.h"
#include "memstore/cluster/split.h"
#include "memstore/cluster/store_state.h"

namespace engram::sim {

// What a store said at one time.
struct Word {
  uint64_t number = 0;  // of the run
  StoreState state;
};
using Words = std::vector<std::shared_ptr<const Word>>;

std::string IdOfSet(uint32_t set);
uint32_t SetOfId(absl::string_view id);
inline constexpr absl::string_view kName = "table";

struct MapOfSet {
  std::shared_ptr<const ClusterMap> map;
  std::unique_ptr<BatchSplitter> splitter;
};

class View {
 public:
  View(Words words, const AddressScheme& scheme);
  const absl::StatusOr<NamedSet>& named() const { return named_; }
  std::shared_ptr<MapOfSet> Of(uint32_t set);

 private:
  std::vector<StoreState> heard_;
  const AddressScheme& scheme_;
  absl::StatusOr<NamedSet> named_;
  std::map<uint32_t, std::shared_ptr<MapOfSet>> maps_;
};

class Views {
 public:
  explicit Views(const AddressScheme& scheme) : scheme_(scheme) {}
  std::shared_ptr<View> Of(const Words& words);

 private:
  static constexpr size_t kKept = 512;
  const AddressScheme& scheme_;
  absl::flat_hash_map<std::vector<uint64_t>, std::shared_ptr<View>> views_;
};

}  // namespace engram::sim
