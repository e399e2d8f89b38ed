// Rows as the commands lay them out: [tokens, layers, columns * row_bytes]; with `slice`, the
// columns are its, of every layer; and how much memory batches of them take. Stateless.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "client/transport/transport.h"

namespace engram::cli {

// More than a batch has use for; what it costs is the target's to say (CheckBatchTokens).
inline constexpr int kMaxBatchTokens = 65536;

// Of one token, over all layers.
uint64_t TokenRows(const Manifest& table_set, const ColumnSlice& slice);
uint64_t TokenRows(const Manifest& table_set);
uint64_t TokenBytes(const Manifest& table_set, const ColumnSlice& slice);

// Of one batch's rows: beyond it a larger batch gains nothing.
inline constexpr uint64_t kMostBatchBytes = uint64_t{1} << 30;
// Of all that are on their way, where it is more than one.
inline constexpr uint64_t kMostBytesInFlight = uint64_t{512} << 20;
// Enough to keep the wire busy while one batch is written out.
inline constexpr size_t kMostBatchesInFlight = 3;

// The batches of `batch_tokens` tokens, of `token_bytes` bytes of rows each, that may be on their
// way together: 1..kMostBatchesInFlight.
size_t BatchesInFlight(uint64_t batch_tokens, uint64_t token_bytes);
// The most tokens that a batch may have; at least 1.
uint64_t MostBatchTokens(uint64_t token_bytes);
// INVALID_ARGUMENT with what --batch-tokens would take and the most that it may be.
absl::Status CheckBatchMemory(uint64_t batch_tokens, uint64_t token_bytes);

// Where the rows of tokens at `rows` land, one a layer.
std::vector<Landing> DenseLandings(const Manifest& table_set, const ColumnSlice& slice,
                                   std::byte* rows);

}  // namespace engram::cli
