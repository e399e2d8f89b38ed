#include "gpu/simulator/backbone.h"

#include <algorithm>
#include <random>

namespace engram::simulator {
namespace {

constexpr uint32_t kSquareProducts = 4;  // query, key, value, output
constexpr uint32_t kWidening = 4;        // of the feed-forward products
// Rows of the right matrix that stay in the first cache.
constexpr uint32_t kInner = 64;

std::vector<float> RandomWeights(size_t count, uint32_t inputs, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(inputs)));
  std::vector<float> weights(count);
  for (float& weight : weights) weight = normal(random);
  return weights;
}

// out[rows][columns] = left[rows][inner] * right[inner][columns]
void Multiply(const float* left, const float* right, uint32_t rows, uint32_t inner,
              uint32_t columns, float* out) {
  std::fill_n(out, uint64_t{rows} * columns, 0.0f);
  for (uint32_t first = 0; first < inner; first += kInner) {
    const uint32_t last = std::min(first + kInner, inner);
    for (uint32_t r = 0; r < rows; ++r) {
      float* const to = out + uint64_t{r} * columns;
      for (uint32_t k = first; k < last; ++k) {
        const float value = left[uint64_t{r} * inner + k];
        const float* const from = right + uint64_t{k} * columns;
        for (uint32_t c = 0; c < columns; ++c) to[c] += value * from[c];
      }
    }
  }
}

}  // namespace

Backbone::Backbone(const BackboneShape& shape, uint32_t max_tokens)
    : shape_(shape),
      square_(RandomWeights(uint64_t{shape.hidden} * shape.hidden, shape.hidden, 1)),
      up_(RandomWeights(uint64_t{shape.hidden} * shape.hidden * kWidening, shape.hidden, 2)),
      down_(RandomWeights(uint64_t{shape.hidden} * shape.hidden * kWidening,
                          shape.hidden * kWidening, 3)),
      hidden_(uint64_t{max_tokens} * shape.hidden, 1.0f),
      wide_(uint64_t{max_tokens} * shape.hidden * kWidening),
      out_(uint64_t{max_tokens} * shape.hidden) {}

void Backbone::RunBlock(uint32_t tokens) {
  const uint32_t d = shape_.hidden;
  for (uint32_t i = 0; i < kSquareProducts; ++i) {
    Multiply(hidden_.data(), square_.data(), tokens, d, d, out_.data());
    hidden_.swap(out_);
  }
  Multiply(hidden_.data(), up_.data(), tokens, d, d * kWidening, wide_.data());
  Multiply(wide_.data(), down_.data(), tokens, d * kWidening, d, out_.data());
  // Kept from growing or vanishing over the blocks, as norms do.
  for (uint64_t i = 0; i < uint64_t{tokens} * d; ++i)
    hidden_[i] = out_[i] / (1 + std::abs(out_[i]));
}

absl::Status Backbone::EnqueueBlock(uint32_t tokens, Stream& stream) {
  if (stream.native() != nullptr) {
    return absl::UnimplementedError(
        "the simulator computes on the host backend alone: --backend host");
  }
  return stream.LaunchOnHost([this, tokens] { RunBlock(tokens); });
}

}  // namespace engram::simulator
