// The host backend's backbone: fp32 products in the stream's thread.
#pragma once

#include <vector>

#include "gpu/simulator/backbone.h"

namespace engram::simulator {

class HostBackbone final : public Backbone {
 public:
  HostBackbone(const BackboneShape& shape, uint32_t max_tokens);
  absl::Status EnqueueBlock(uint32_t tokens, Stream& stream) override;
  absl::StatusOr<std::vector<float>> Hidden(uint32_t tokens, Stream& stream) override;

 private:
  void Multiply(const BlockProduct& product, const float* left, uint32_t tokens, float* out) const;
  void RunBlock(uint32_t tokens);

  const std::array<BlockProduct, kBlockProducts> products_;
  std::vector<float> weights_;
  std::vector<float> hidden_, wide_, middle_, change_;
};

}  // namespace engram::simulator
