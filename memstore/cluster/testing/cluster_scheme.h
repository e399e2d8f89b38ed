// A small table set of the shape of V4.1 (two layers, three orders of eight heads), and the stores
// that hold it.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "memstore/addressing/scheme.h"
#include "memstore/cluster/store_state.h"
#include "memstore/partition/partition.h"

namespace engram::testing_cluster {

inline const std::string kSetId(64, 'a');

inline AddressScheme Scheme() {
  AddressScheme scheme;
  scheme.family = "test";
  scheme.max_order = 4;
  scheme.heads_per_order = 8;
  scheme.vocab_size = 1000;
  for (const uint32_t layer : {1u, 14u}) {
    LayerAddressing& made = scheme.layers.emplace_back();
    made.layer = layer;
    made.multipliers = {3, 5, 7, 9};
    uint64_t offset = 0;
    for (uint32_t column = 0; column < scheme.Columns(); ++column) {
      made.offsets.push_back(offset);
      made.moduli.push_back(100 + layer + 2 * column);
      offset += made.moduli.back();
    }
  }
  return scheme;
}

// A store of partition index/count of the set `set_id`.
inline StoreState Store(const AddressScheme& scheme, const std::string& instance, uint32_t index,
                        uint32_t count, HoldingState state = HoldingState::kServing) {
  const auto columns = ColumnsOf(PartitionIndex{index, count}, scheme);
  EXPECT_TRUE(columns.ok()) << columns.status();
  StoreState store;
  store.instance_id = instance;
  store.address = absl::StrCat(instance, ":7300");
  store.transports = {"grpc"};
  HeldSet& set = store.sets.emplace_back();
  set.name = "table";
  set.set_id = kSetId;
  set.generation = 1;
  set.state = state;
  const std::vector<HeldLayer> rows = RowsOf(*columns, scheme);
  for (size_t i = 0; i < rows.size(); ++i) {
    set.layers.push_back({.layer = scheme.layers[i].layer, .rows = rows[i]});
  }
  return store;
}

// `replicas` stores of each of `partitions` partitions, called p0r0, p0r1, ...
inline std::vector<StoreState> Partitioned(const AddressScheme& scheme, uint32_t partitions,
                                           uint32_t replicas) {
  std::vector<StoreState> stores;
  for (uint32_t p = 0; p < partitions; ++p) {
    for (uint32_t r = 0; r < replicas; ++r) {
      stores.push_back(Store(scheme, absl::StrCat("p", p, "r", r), p, partitions));
    }
  }
  return stores;
}

}  // namespace engram::testing_cluster
