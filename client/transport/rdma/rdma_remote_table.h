// Rows in an owner's memory, as a client that reads them by itself sees them: of each layer the
// ranges that the owner holds, a range in regions that follow each other, all of one size but the
// last.
//
// Ids are always those of the whole table. Immutable and thread-safe; Locate allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/partition/partition.h"
#include "memstore/table/manifest.h"

namespace engram {

// Memory of the owner's, with the key that opens it.
struct RemoteRegion {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t key = 0;
};

// One range of a layer's rows.
class RdmaRemoteTable {
 public:
  // INTERNAL names the layer: what the owner says is not a part of the manifest's table.
  static absl::StatusOr<RdmaRemoteTable> Create(const LayerTableSpec& layer, uint64_t first_row,
                                                uint64_t rows, std::vector<RemoteRegion> regions);

  uint32_t layer() const { return layer_; }
  bool Holds(RowId row) const { return row - first_row_ < rows_; }
  // Where a row that it holds lies: one run of bytes, or two. Returns how many.
  int Locate(RowId row, std::array<RemoteRegion, 2>* runs) const;

 private:
  RdmaRemoteTable(const LayerTableSpec& layer, uint64_t first_row, uint64_t rows,
                  std::vector<RemoteRegion> regions)
      : layer_(layer.layer),
        row_bytes_(layer.row_bytes),
        first_row_(first_row),
        rows_(rows),
        regions_(std::move(regions)) {}

  uint32_t layer_;
  uint32_t row_bytes_;
  uint64_t first_row_;
  uint64_t rows_;
  std::vector<RemoteRegion> regions_;
};

// All ranges of all layers of a set.
class RdmaRemoteSet {
 public:
  // As the owner names them: of a layer in ascending order, none of a layer that it holds nothing
  // of.
  struct Range {
    uint32_t layer = 0;
    RowRange rows;
    std::vector<RemoteRegion> regions;
  };
  // INTERNAL names the layer: what the owner says is not a part of the manifest's tables. Also when
  // it names none at all.
  static absl::StatusOr<RdmaRemoteSet> Create(const Manifest& manifest, std::vector<Range> ranges);

  // Errors of CheckHeldRows. The layer is one of the manifest's.
  absl::Status Check(uint32_t layer, absl::Span<const RowId> ids) const;
  // RdmaRemoteTable::Locate of a row that was checked.
  int Locate(uint32_t layer, RowId row, std::array<RemoteRegion, 2>* runs) const;

 private:
  struct Layer {
    LayerAddressing addressing;
    HeldLayer held;
    std::vector<RdmaRemoteTable> tables;  // one for each range
  };
  const Layer& Find(uint32_t layer) const;

  std::vector<Layer> layers_;  // as in the manifest
};

}  // namespace engram
