// The tokens of each sequence of a file of token ids: what --sequence-tokens names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace engram {

// Numbers in text, apart by blanks, commas or lines (a JSON list is such); or raw int32, or a .npy
// array as token ids are. A sequence may have no tokens. INVALID_ARGUMENT names the file and what
// is no number of tokens; otherwise ByteReader::Open's errors.
absl::StatusOr<std::vector<uint32_t>> ReadSequenceTokens(const std::string& path);

}  // namespace engram
