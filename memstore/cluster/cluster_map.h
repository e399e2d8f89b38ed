// Which stores hold what of one table set.
//
// Made from what stores say of themselves (store_state.h): the columns of all layers fall into
// pieces, a piece being the columns that the same stores hold. With stores of K/N there are N
// pieces, of as many stores as there are replicas. Columns that no ready store holds are a piece,
// too, of no stores (MissingRows names them). Columns are what is asked for; of a column that a
// store holds in part nothing counts.
//
// Immutable and thread-safe: it is swapped whole, as a shared pointer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/cluster/heard_stores.h"
#include "memstore/cluster/piece_table.h"
#include "memstore/cluster/store_state.h"
#include "memstore/partition/partition.h"

namespace engram {

struct MapStore {
  std::string instance_id;
  std::string address;
  std::string zone;
  std::vector<std::string> transports;
  bool draining = false;  // answers still; another replica is asked where there is one
  // What it says of the set: which publication, and whole columns, an entry for each layer of the
  // scheme, in its order.
  uint64_t generation = 0;
  std::vector<HeldColumns> columns;
};

// Columns that the same stores hold.
struct MapPiece {
  std::vector<uint32_t> stores;      // places in stores(), ascending; none: nobody is ready
  std::vector<HeldColumns> columns;  // one for each layer of the scheme, in its order
  std::vector<HeldLayer> rows;       // the same as row ranges
};

class ClusterMap {
 public:
  // `heard` as SiftStores takes it. A store that holds nothing of the set is no part of the map;
  // one that holds it in another shape (layers, rows of a layer) is refused as no store of it, as
  // are those that SiftStores refuses. A map without any store is a map. FAILED_PRECONDITION: more
  // pieces than kMaxPieces.
  static absl::StatusOr<std::shared_ptr<const ClusterMap>> Create(
      absl::string_view set_id, const AddressScheme& scheme, absl::Span<const StoreState> heard);

  const std::string& set_id() const { return set_id_; }
  absl::Span<const MapStore> stores() const { return stores_; }
  absl::Span<const MapPiece> pieces() const { return pieces_; }
  absl::Span<const RefusedStore> refused() const { return refused_; }
  uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
  uint32_t columns() const { return columns_; }  // of each layer

  // The piece of each column of the layer at `index` of the scheme.
  absl::Span<const uint16_t> PiecesOfColumns(uint32_t index) const {
    return {piece_of_.data() + size_t{index} * columns_, columns_};
  }
  // The piece of each row of that layer.
  const PieceTable& PiecesOfRows(uint32_t index) const { return layers_[index].piece_of_row; }
  uint32_t LayerNumber(uint32_t index) const { return layers_[index].number; }
  // Where the layer with this number stands; layers() where there is none.
  uint32_t IndexOfLayer(uint32_t number) const;

  // The stores that hold every one of these columns (a piece's of an older map of the set, say).
  // Ascending; none: no store does.
  std::vector<uint32_t> HoldersOf(absl::Span<const HeldColumns> columns) const;
  // Whether each of the columns has a store.
  bool Covers(absl::Span<const HeldColumns> columns) const;

  bool is_complete() const { return missing_ < 0; }
  // OK, or UNAVAILABLE that names columns and rows without a ready replica, and the stores that
  // were refused.
  absl::Status CheckComplete() const;

  // More than any cluster is cut into; a piece's number is 16 bits in the splitter's scratch.
  static constexpr size_t kMaxPieces = 4096;

 private:
  struct Layer {
    uint32_t number = 0;
    PieceTable piece_of_row;
  };
  using Holders = std::vector<std::vector<uint32_t>>;  // [layers][columns]: places in stores_

  ClusterMap() = default;
  void AddStore(const HeardStores::Store& store, const AddressScheme& scheme, Holders* holders);
  absl::Status CutPieces(const AddressScheme& scheme, const Holders& holders);

  std::string set_id_;
  uint32_t columns_ = 0;
  std::vector<Layer> layers_;
  std::vector<MapStore> stores_;
  std::vector<MapPiece> pieces_;
  std::vector<uint16_t> piece_of_;  // [layers][columns]
  int32_t missing_ = -1;            // the piece of no stores
  std::vector<RefusedStore> refused_;
};

// "layer 1: columns 0..1, 8..9 (rows [0, 40), [80, 120)); layer 14: ...", for messages.
std::string DescribePiece(const MapPiece& piece);

}  // namespace engram
