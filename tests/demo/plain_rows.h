// The rows of a synthetic table set by the book: plain arithmetic (`%`, no reciprocals, no window
// state), and no code shared with what is checked but the manifest. Values; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/table/manifest.h"

namespace engram::demo {

// int32 ids, as they lie in the file; empty where it cannot be read.
std::vector<int32_t> ReadInts(const std::string& path);

// OK: addresses of this scheme are what PlainRow makes. Else INVALID_ARGUMENT.
absl::Status CheckPlain(const AddressScheme& scheme);

// Ids as they are hashed: through the token map of the set in `directory`, where it has one. `ids`
// are in the map.
void MapIds(const AddressScheme& scheme, const std::string& directory, std::vector<int32_t>* ids);

// Row of column `column` at `position` of a sequence of such ids.
uint64_t PlainRow(const AddressScheme& scheme, const LayerAddressing& layer, uint32_t column,
                  absl::Span<const int32_t> ids, size_t position);

// Whether these are the bytes of the row (proto/FORMATS.md, "Synthetic sets").
bool IsPlainRow(uint32_t layer, uint64_t row_id, const unsigned char* row, uint32_t row_bytes);

}  // namespace engram::demo
