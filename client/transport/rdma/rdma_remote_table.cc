#include "client/transport/rdma/rdma_remote_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "memstore/partition/held_check.h"

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

absl::StatusOr<RdmaRemoteSet> RdmaRemoteSet::Create(const Manifest& manifest,
                                                    std::vector<Range> ranges) {
  if (ranges.empty()) return absl::InternalError("the owner names no table");
  RdmaRemoteSet set;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const LayerTableSpec& layer = manifest.layers[i];
    Layer& taken = set.layers_.emplace_back();
    taken.addressing = manifest.scheme.layers[i];
    taken.held.table_rows = layer.rows;
    for (Range& range : ranges) {
      if (range.layer != layer.layer) continue;
      ENGRAM_ASSIGN_OR_RETURN(RdmaRemoteTable table,
                              RdmaRemoteTable::Create(layer, range.rows.first, range.rows.rows,
                                                      std::move(range.regions)));
      taken.held.ranges.push_back(range.rows);
      taken.tables.push_back(std::move(table));
    }
    if (absl::Status status = CheckRanges(taken.held, layer.rows); !status.ok()) {
      return absl::InternalError(
          absl::StrCat("the owner's table of layer ", layer.layer, ": ", status.message()));
    }
  }
  return set;
}

const RdmaRemoteSet::Layer& RdmaRemoteSet::Find(uint32_t layer) const {
  const auto found = std::find_if(layers_.begin(), layers_.end(),
                                  [&](const Layer& one) { return one.addressing.layer == layer; });
  ENGRAM_CHECK(found != layers_.end(), "a batch that was not checked");
  return *found;
}

absl::Status RdmaRemoteSet::Check(uint32_t layer, absl::Span<const RowId> ids) const {
  const Layer& there = Find(layer);
  return CheckHeldRows(there.held, there.addressing, ids);
}

int RdmaRemoteSet::Locate(uint32_t layer, RowId row, std::array<RemoteRegion, 2>* runs) const {
  const Layer& there = Find(layer);
  // The last range that begins at or before the row.
  const auto behind =
      std::upper_bound(there.held.ranges.begin(), there.held.ranges.end(), row,
                       [](RowId at, const RowRange& range) { return at < range.first; });
  ENGRAM_CHECK(behind != there.held.ranges.begin(), "a row that was not checked");
  return there.tables[behind - there.held.ranges.begin() - 1].Locate(row, runs);
}

}  // namespace engram
