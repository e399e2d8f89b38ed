#include "client/cli/dense_rows.h"

namespace engram::cli {

uint64_t TokenRows(const Manifest& table_set, const ColumnSlice& slice) {
  return uint64_t{slice.columns()} * table_set.layers.size();
}

uint64_t TokenRows(const Manifest& table_set) {
  return TokenRows(table_set, ColumnSlice::All(table_set.scheme.Columns()));
}

uint64_t TokenBytes(const Manifest& table_set, const ColumnSlice& slice) {
  uint64_t bytes = 0;
  for (const LayerTableSpec& layer : table_set.layers) {
    bytes += uint64_t{slice.columns()} * layer.row_bytes;
  }
  return bytes;
}

std::vector<Landing> DenseLandings(const Manifest& table_set, const ColumnSlice& slice,
                                   std::byte* rows) {
  const uint64_t token_bytes = TokenBytes(table_set, slice);
  const uint32_t columns = slice.columns();
  std::vector<Landing> landings;
  for (const LayerTableSpec& layer : table_set.layers) {
    landings.push_back({.data = rows, .group_rows = columns, .group_stride_bytes = token_bytes});
    rows += uint64_t{columns} * layer.row_bytes;
  }
  return landings;
}

}  // namespace engram::cli
