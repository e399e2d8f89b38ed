// Joins two tensors row by row: a row's weights, then its scales.
//
// Stateless, thread-safe. Cost: a memory copy's; the width of DeepSeek-V4.1 (256 + 8) is copied by
// fixed sizes (interleave_benchmark).
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace engram {

// `out` gets as many rows as it has room for; `weights` and `scales` hold at least as many.
void InterleaveRows(absl::Span<const std::byte> weights, uint32_t weight_bytes,
                    absl::Span<const std::byte> scales, uint32_t scale_bytes,
                    absl::Span<std::byte> out);

}  // namespace engram
