// One batch of a simulated worker: its ids, its memory, and who wrote what there.
//
// A row is eight bytes: the flight that wrote it, the set that it was taken from, and the row's id.
// So whose rows lie where is read from the memory itself. Records are used again as soon as the
// memory is given back, so that what comes late is seen in it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/cluster/split.h"
#include "tests/sim/checker.h"
#include "tests/sim/draws.h"
#include "tests/sim/flight.h"
#include "tests/sim/maps.h"

namespace engram::sim {

using FlightList = absl::InlinedVector<uint32_t, 4>;
inline void Remove(FlightList& list, uint32_t flight) {
  list.erase(std::remove(list.begin(), list.end(), flight), list.end());
}

struct PartRecord {
  uint32_t attempts = 0;  // sent
  FlightList may_write;   // flights that were not cancelled, nor have ended
  FlightList devices;     // flights whose store may write, ended or drained
  uint32_t writer = 0;    // the copied flight whose rows land: its serial
  bool had_free = false;
  bool has_free = false;                      // the next one is
  std::array<uint32_t, kLayers> landed_by{};  // serials
  uint32_t given_away = 0;                    // layers, as bits: other parts have them
  uint32_t just_given = 0;                    // of them, by the last split
};

struct BatchRecord {
  static constexpr uint32_t kRowBytes = 8;

  // Draws ids of a few tokens and splits them by the map.
  void Draw(const MapOfSet& of_set, const AddressScheme& scheme, Draws& draws);
  const PartLayer* LayerOf(uint32_t part, uint32_t layer) const;
  // Layers of the part that `is_missing` names, by another map, as parts behind those that are
  // there; and the other way round.
  void SplitAgain(uint32_t part, const MapOfSet& of_set,
                  absl::FunctionRef<bool(uint32_t layer)> is_missing);
  void ForgetSplit(uint32_t part, uint32_t first);
  // Rows [begin, end) of a part's layer, as `flight` brings them; in shares of `kShares`.
  static constexpr uint64_t kShares = 2;
  void Write(const Flight& flight, uint32_t layer, uint64_t first_share, uint64_t end_share);
  // An empty string, or what is wrong with the rows; `broken` says which promise.
  std::string Check(uint32_t set, Invariant* broken) const;

  uint32_t place = 0;    // in its session
  uint32_t use = 0;      // how often it was given back
  bool is_open = false;  // the ticket
  bool is_lent = false;  // the memory
  BatchId id = 0;
  MonotonicTime submitted_at, deadline, ended_at;
  std::array<std::vector<RowId>, kLayers> ids;
  std::array<std::vector<uint64_t>, kLayers> memory;
  std::shared_ptr<const ClusterMap> map;  // that the split's slices are of
  BatchSplit split;
  std::vector<std::unique_ptr<BatchSplit>> more;
  std::vector<SplitPart> parts;  // with the bytes of what each stands for
  std::vector<PartRecord> records;
};

}  // namespace engram::sim
