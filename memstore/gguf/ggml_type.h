// The types of GGUF's tensors: how many values a block has, and how many bytes.
//
// Stateless. By the public table of ggml (GGML_QUANT_SIZES); Q8_1, of which its sources give two
// sizes, is never in a file and not here.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace engram {

struct GgmlType {
  uint32_t number;
  absl::string_view name;  // in lower case, as in "q8_0"
  uint32_t block_values;
  uint32_t block_bytes;
};

// nullptr: not known.
const GgmlType* FindGgmlType(uint32_t number);

}  // namespace engram
