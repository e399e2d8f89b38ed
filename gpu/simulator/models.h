// The models whose steps the simulator runs: the shape of their blocks, and whose tables they read.
//
// small   a model that a processor computes in a step's time.
// 4b, 8b  dense models of 36 blocks, as Qwen3-4B's and Qwen3-8B's published configurations have
//         them (hidden 2,560 and 4,096, feed-forward 9,728 and 12,288, 32 query heads and 8
//         key-value heads of 128): the paper's Table 4 names its backbones by size alone. One
//         Engram layer, in the second block.
// v41     DeepSeek-V4.1's geometry: 40 blocks of width 5,120 with four branches, Engram in blocks 1
//         and 14. Its experts' shapes are not published with it: blocks are as dense ones of that
//         width (feed-forward 13,824, 40 query heads and 8 key-value heads of 128).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram::simulator {

// Gated feed-forward blocks with grouped key-value heads.
struct BackboneShape {
  uint32_t hidden = 0;
  uint32_t blocks = 0;
  uint32_t query = 0;         // width of all query heads
  uint32_t key_value = 0;     // width of all keys, and of all values
  uint32_t feed_forward = 0;  // width between the feed-forward's products

  uint64_t BlockWeights() const;
  // Multiplications and additions of a step.
  double StepFlops(uint32_t tokens) const { return 2.0 * tokens * blocks * BlockWeights(); }
  // All widths divided; blocks stay, and with them what stands before a layer.
  BackboneShape Narrowed(uint32_t divisor) const;
};

struct Model {
  absl::string_view name;
  BackboneShape shape;
  uint32_t branches = 1;  // hidden states of a token
  absl::string_view family;
  uint32_t sequences = 0;     // decoded side by side, unless asked otherwise
  uint32_t chunk_tokens = 0;  // of a prefill step, unless asked otherwise
};

// INVALID_ARGUMENT lists the names.
absl::StatusOr<Model> FindModel(absl::string_view name);
std::vector<std::string> ModelNames();

// The least power of two to divide the widths by so that a processor computes a step of so many
// tokens in well under a second.
uint32_t HostDivisor(const BackboneShape& shape, uint32_t tokens);

}  // namespace engram::simulator
