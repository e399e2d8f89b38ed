// What an engine computes between Engram layers: a stack of transformer blocks' matrix products, on
// a device's stream.
//
// A block: queries, keys and values in one product, the output projection, the gated feed-forward's
// two. Attention over the past is left out: it touches no rows. All blocks share one block's
// weights, which for the large models are four times what a GPU's cache holds, so that they are
// read from its memory as a model's are. Host backend: fp32 in the stream's thread. CUDA: bf16
// products of cuBLAS with fp32 sums on the stream, found when it is made.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/device/device.h"
#include "gpu/simulator/models.h"

namespace engram::simulator {

// One of a block's products: [tokens][inputs] by [inputs][outputs]. The left rows lie `left_stride`
// values apart.
struct BlockProduct {
  uint32_t inputs = 0;
  uint32_t outputs = 0;
  uint32_t left_stride = 0;
  uint64_t first_weight = 0;  // in the block's weights
};
enum : size_t { kQueryKeyValue, kOutput, kGateUp, kDown, kBlockProducts };
std::array<BlockProduct, kBlockProducts> BlockProducts(const BackboneShape& shape);

// A block's weights, bf16, [inputs][outputs] each: the same on every device.
std::vector<uint16_t> MakeBlockWeights(const BackboneShape& shape);

class Backbone {
 public:
  // FAILED_PRECONDITION: CUDA without cuBLAS, naming the library; RESOURCE_EXHAUSTED: no memory.
  static absl::StatusOr<std::unique_ptr<Backbone>> Create(const BackboneShape& shape,
                                                          uint32_t max_tokens, Device& device);
  virtual ~Backbone() = default;

  const BackboneShape& shape() const { return shape_; }
  // One block over `tokens` tokens.
  virtual absl::Status EnqueueBlock(uint32_t tokens, Stream& stream) = 0;
  // Waits for the stream: the first `tokens` hidden states, to look at.
  virtual absl::StatusOr<std::vector<float>> Hidden(uint32_t tokens, Stream& stream) = 0;

 protected:
  explicit Backbone(const BackboneShape& shape) : shape_(shape) {}

 private:
  const BackboneShape shape_;
};

}  // namespace engram::simulator
