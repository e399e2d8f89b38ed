#include "client/transport/rdma/rdma_remote_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {

absl::StatusOr<RdmaRemoteTable> RdmaRemoteTable::Create(const LayerTableSpec& layer,
                                                        uint64_t first_row, uint64_t rows,
                                                        std::vector<RemoteRegion> regions) {
  uint64_t bytes = 0;
  bool fine = rows > 0 && first_row < layer.rows && rows <= layer.rows - first_row;
  for (size_t i = 0; fine && i < regions.size(); ++i) {
    const bool is_last = i + 1 == regions.size();
    fine = is_last ? regions[i].bytes <= regions[0].bytes : regions[i].bytes == regions[0].bytes;
    fine = fine && !__builtin_add_overflow(bytes, regions[i].bytes, &bytes);
  }
  // A row lies in two regions at most, and the manifest bounds the product.
  fine = fine && !regions.empty() && regions[0].bytes >= layer.row_bytes &&
         bytes >= rows * layer.row_bytes;
  if (!fine) {
    return absl::InternalError(absl::StrCat(
        "the owner's table of layer ", layer.layer, ", rows ", first_row, " and ", rows,
        " in all in ", regions.size(), " regions of ", bytes, " bytes, is not the manifest's of ",
        layer.rows, " rows of ", layer.row_bytes, " bytes: update the older of client and owner"));
  }
  return RdmaRemoteTable(layer, first_row, rows, std::move(regions));
}

absl::Status RdmaRemoteTable::CheckRow(RowId row) const {
  if (Holds(row)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("layer ", layer_, ": row ", row, " is not one of the rows ", first_row_, " to ",
                   first_row_ + rows_ - 1, " that this owner holds: ask the one that holds it"));
}

int RdmaRemoteTable::Locate(RowId row, std::array<RemoteRegion, 2>* runs) const {
  ENGRAM_CHECK(Holds(row), "a row that was not checked");
  const uint64_t region_bytes = regions_[0].bytes;
  const uint64_t at = (row - first_row_) * row_bytes_;
  const RemoteRegion& region = regions_[at / region_bytes];
  const uint64_t offset = at % region_bytes;
  const uint64_t bytes = std::min<uint64_t>(row_bytes_, region_bytes - offset);
  (*runs)[0] = {region.address + offset, bytes, region.key};
  if (bytes == row_bytes_) return 1;
  const RemoteRegion& next = regions_[at / region_bytes + 1];
  (*runs)[1] = {next.address, row_bytes_ - bytes, next.key};
  return 2;
}

}  // namespace engram
