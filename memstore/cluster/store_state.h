// What one store says of itself: who it is, and which rows of which table sets it holds.
//
// Plain values, as they came. Whoever fills them from a message checks only that they fit; whether
// a store may be believed is said by SiftStores (heard_stores.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "memstore/partition/partition.h"

namespace engram {

enum class StoreRole {
  kStore,    // has rows of its own
  kGateway,  // fetches rows from stores: never one of them, whatever it lists
};

enum class HoldingState {
  kStaged,      // loaded and verified, not published yet: no lookup goes there
  kServing,     // its name leads to it
  kSuperseded,  // its name leads to another set; who asks for it by its id is still answered
  kDraining,    // the store is about to go: it still answers, and is asked where no other can be
};

// The rows held of one layer.
struct HeldTableLayer {
  uint32_t layer = 0;  // the model's layer number
  HeldLayer rows;
  friend bool operator==(const HeldTableLayer&, const HeldTableLayer&) = default;
};

struct HeldSet {
  std::string name;
  std::string set_id;
  uint64_t generation = 0;  // orders the publications of a name
  HoldingState state = HoldingState::kStaged;
  std::vector<HeldTableLayer> layers;  // ascending by layer; all of the set, held or not
  friend bool operator==(const HeldSet&, const HeldSet&) = default;
};

struct StoreState {
  std::string instance_id;  // random, of one run of the program
  std::string address;      // under which it was reached
  StoreRole role = StoreRole::kStore;
  std::string zone;                        // empty: not said
  std::vector<std::string> transports;     // "grpc", "rdma", "shm"
  std::vector<std::string> features = {};  // of its lookups (proto/wire/features.h)
  double load = 0;                         // 0 idle, 1 as much as it can do
  std::vector<HeldSet> sets;
  friend bool operator==(const StoreState&, const StoreState&) = default;
};

}  // namespace engram
