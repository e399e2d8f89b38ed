// Addresses by the book, for tests and as the benchmark's yardstick: `%`, no reciprocals, no tables
// made beforehand, no state; shares nothing with the kernels but the scheme. Ids must be in range.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"
#include "memstore/addressing/token_map.h"

namespace engram {

// Of a whole sequence from its start, [tokens, layers, columns], to `rows`. `token_map` is nullptr
// where the scheme has none; `dead` is empty or a byte for each token.
void PlainAddress(const AddressScheme& scheme, const TokenMap* token_map,
                  absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead,
                  std::vector<RowId>* rows);

}  // namespace engram
