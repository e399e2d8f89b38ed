// Rows as the commands lay them out: [tokens, layers, columns * row_bytes]; with `slice`, the
// columns are its, of every layer. Stateless.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "client/transport/transport.h"

namespace engram::cli {

// More than a batch has use for; what it costs is the target's to say (CheckBatchTokens).
inline constexpr int kMaxBatchTokens = 65536;

// Of one token, over all layers.
uint64_t TokenRows(const Manifest& table_set, const ColumnSlice& slice);
uint64_t TokenRows(const Manifest& table_set);
uint64_t TokenBytes(const Manifest& table_set, const ColumnSlice& slice);

// Where the rows of tokens at `rows` land, one a layer.
std::vector<Landing> DenseLandings(const Manifest& table_set, const ColumnSlice& slice,
                                   std::byte* rows);

}  // namespace engram::cli
