// What an engine computes between Engram layers: a stack of transformer blocks' matrix products, on
// a device's stream.
//
// A block is four products of hidden x hidden and two of hidden x 4 hidden over a step's tokens, as
// dense models have them (attention over the past is left out: it does not touch rows). Host
// backend: fp32 in the stream's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "gpu/device.h"

namespace engram::simulator {

struct BackboneShape {
  uint32_t hidden = 256;
  uint32_t blocks = 8;
};

class Backbone {
 public:
  Backbone(const BackboneShape& shape, uint32_t max_tokens);
  const BackboneShape& shape() const { return shape_; }
  // One block over `tokens` tokens.
  absl::Status EnqueueBlock(uint32_t tokens, Stream& stream);

 private:
  void RunBlock(uint32_t tokens);

  const BackboneShape shape_;
  std::vector<float> square_, up_, down_;  // weights, shared by all blocks
  std::vector<float> hidden_, wide_, out_;
};

}  // namespace engram::simulator
