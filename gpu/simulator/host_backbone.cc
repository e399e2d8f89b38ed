#include "gpu/simulator/host_backbone.h"

#include <algorithm>

#include "gpu/simulator/backbone_loop.h"

namespace engram::simulator {
namespace {

// Rows of the right matrix that stay in the first cache.
constexpr uint32_t kInner = 64;

}  // namespace

HostBackbone::HostBackbone(const BackboneShape& shape, uint32_t max_tokens)
    : Backbone(shape),
      products_(BlockProducts(shape)),
      hidden_(uint64_t{max_tokens} * shape.hidden) {
  for (const uint16_t weight : MakeBlockWeights(shape)) weights_.push_back(FloatOfBf16(weight));
  for (uint64_t i = 0; i < hidden_.size(); ++i)
    hidden_[i] = FirstHidden(static_cast<uint32_t>(i % shape.hidden));
  const uint64_t widest = std::max(products_[kQueryKeyValue].outputs, products_[kGateUp].outputs);
  wide_.resize(max_tokens * widest);
  middle_.resize(uint64_t{max_tokens} * shape.feed_forward);
  change_.resize(uint64_t{max_tokens} * shape.hidden);
}

void HostBackbone::Multiply(const BlockProduct& product, const float* left, uint32_t tokens,
                            float* out) const {
  const float* const right = weights_.data() + product.first_weight;
  std::fill_n(out, uint64_t{tokens} * product.outputs, 0.0f);
  for (uint32_t first = 0; first < product.inputs; first += kInner) {
    const uint32_t last = std::min(first + kInner, product.inputs);
    for (uint32_t t = 0; t < tokens; ++t) {
      float* const to = out + uint64_t{t} * product.outputs;
      for (uint32_t k = first; k < last; ++k) {
        const float value = left[uint64_t{t} * product.left_stride + k];
        const float* const from = right + uint64_t{k} * product.outputs;
        for (uint32_t c = 0; c < product.outputs; ++c) to[c] += value * from[c];
      }
    }
  }
}

void HostBackbone::RunBlock(uint32_t tokens) {
  const uint64_t values = uint64_t{tokens} * shape().hidden;
  const auto add = [&] {
    for (uint64_t i = 0; i < values; ++i) hidden_[i] = AddedTo(hidden_[i], change_[i]);
  };
  Multiply(products_[kQueryKeyValue], hidden_.data(), tokens, wide_.data());
  Multiply(products_[kOutput], wide_.data(), tokens, change_.data());
  add();
  Multiply(products_[kGateUp], hidden_.data(), tokens, wide_.data());
  const uint32_t width = shape().feed_forward;
  for (uint32_t t = 0; t < tokens; ++t) {
    const float* const gate = wide_.data() + uint64_t{t} * 2 * width;
    for (uint32_t c = 0; c < width; ++c)
      middle_[uint64_t{t} * width + c] = Gated(gate[c], gate[width + c]);
  }
  Multiply(products_[kDown], middle_.data(), tokens, change_.data());
  add();
}

absl::Status HostBackbone::EnqueueBlock(uint32_t tokens, Stream& stream) {
  return stream.LaunchOnHost([this, tokens] { RunBlock(tokens); });
}

absl::StatusOr<std::vector<float>> HostBackbone::Hidden(uint32_t tokens, Stream& stream) {
  if (absl::Status status = stream.Synchronize(); !status.ok()) return status;
  return std::vector<float>(hidden_.begin(),
                            hidden_.begin() + static_cast<ptrdiff_t>(tokens) * shape().hidden);
}

}  // namespace engram::simulator
