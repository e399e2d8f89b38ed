// A layer's rows in an owner's memory, as a client that reads them by itself sees them: regions
// that follow each other, all of one size but the last.
//
// The owner may hold a part of the table: rows first_row..first_row+rows-1; ids are always those of
// the whole table. Immutable and thread-safe; Locate allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/table/manifest.h"

namespace engram {

// Memory of the owner's, with the key that opens it.
struct RemoteRegion {
  uint64_t address = 0;
  uint64_t bytes = 0;
  uint32_t key = 0;
};

class RdmaRemoteTable {
 public:
  // INTERNAL names the layer: what the owner says is not a part of the manifest's table.
  static absl::StatusOr<RdmaRemoteTable> Create(const LayerTableSpec& layer, uint64_t first_row,
                                                uint64_t rows, std::vector<RemoteRegion> regions);

  uint32_t layer() const { return layer_; }
  bool Holds(RowId row) const { return row - first_row_ < rows_; }
  // INVALID_ARGUMENT names the row and those that the owner holds.
  absl::Status CheckRow(RowId row) const;
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

}  // namespace engram
