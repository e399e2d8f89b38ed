#include "client/cli/support/dense_rows.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/human_units.h"

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

size_t BatchesInFlight(uint64_t batch_tokens, uint64_t token_bytes) {
  const uint64_t batch_bytes = std::max<uint64_t>(1, batch_tokens * token_bytes);
  return std::clamp<uint64_t>(kMostBytesInFlight / batch_bytes, 1, kMostBatchesInFlight);
}

uint64_t MostBatchTokens(uint64_t token_bytes) {
  return std::max<uint64_t>(1, kMostBatchBytes / std::max<uint64_t>(1, token_bytes));
}

absl::Status CheckBatchMemory(uint64_t batch_tokens, uint64_t token_bytes) {
  const uint64_t most = MostBatchTokens(token_bytes);
  if (batch_tokens <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--batch-tokens ", batch_tokens, " takes ", ExactBytes(batch_tokens * token_bytes),
      " of memory for the rows of one batch (", HumanBytes(token_bytes), " a token), and at most ",
      ExactBytes(kMostBatchBytes), " are taken: give at most ", most));
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
