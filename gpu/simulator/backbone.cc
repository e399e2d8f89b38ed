#include "gpu/simulator/backbone.h"

#include <cmath>
#include <random>

#include "gpu/kernels/fused_layer_loop.h"
#include "gpu/simulator/cuda_backbone.h"
#include "gpu/simulator/host_backbone.h"

namespace engram::simulator {

std::array<BlockProduct, kBlockProducts> BlockProducts(const BackboneShape& shape) {
  const uint32_t wide = shape.query + 2 * shape.key_value;
  std::array<BlockProduct, kBlockProducts> products;
  products[kQueryKeyValue] = {.inputs = shape.hidden, .outputs = wide, .left_stride = shape.hidden};
  // Attention mixes values into something as wide as queries: those stand for it.
  products[kOutput] = {.inputs = shape.query, .outputs = shape.hidden, .left_stride = wide};
  products[kGateUp] = {
      .inputs = shape.hidden, .outputs = 2 * shape.feed_forward, .left_stride = shape.hidden};
  products[kDown] = {
      .inputs = shape.feed_forward, .outputs = shape.hidden, .left_stride = shape.feed_forward};
  uint64_t first = 0;
  for (BlockProduct& product : products) {
    product.first_weight = first;
    first += uint64_t{product.inputs} * product.outputs;
  }
  return products;
}

std::vector<uint16_t> MakeBlockWeights(const BackboneShape& shape) {
  std::vector<uint16_t> weights(shape.BlockWeights());
  std::minstd_rand random(1);
  for (const BlockProduct& product : BlockProducts(shape)) {
    // Uniform, and as large as keeps a product's outputs as large as its inputs.
    const float most = std::sqrt(3.0f / static_cast<float>(product.inputs));
    const float unit = 2 * most / static_cast<float>(random.max());
    uint16_t* const first = weights.data() + product.first_weight;
    for (uint64_t i = 0; i < uint64_t{product.inputs} * product.outputs; ++i)
      first[i] = Bf16OfFloat(static_cast<float>(random()) * unit - most);
  }
  return weights;
}

absl::StatusOr<std::unique_ptr<Backbone>> Backbone::Create(const BackboneShape& shape,
                                                           uint32_t max_tokens, Device& device) {
  if (device.kind() == DeviceKind::kCuda) return MakeCudaBackbone(shape, max_tokens, device);
  return std::unique_ptr<Backbone>(std::make_unique<HostBackbone>(shape, max_tokens));
}

}  // namespace engram::simulator
