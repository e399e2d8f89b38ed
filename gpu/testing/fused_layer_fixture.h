// A fused layer with random weights, and its way through a sequence: for tests.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "gpu/kernels/fused_layer.h"
#include "gtest/gtest.h"

namespace engram::testing {

// bf16 values around 0, of a spread that keeps sums of `count` of them about 1.
inline std::vector<uint16_t> RandomBf16(std::mt19937& random, size_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<uint16_t> values(count);
  for (uint16_t& value : values) value = Bf16OfFloat(normal(random));
  return values;
}

class FusedLayerFixture {
 public:
  FusedLayerFixture(const FusedLayerShape& shape, Device& device, uint32_t max_tokens)
      : shape_(shape), device_(device) {
    std::mt19937 random(11);
    const uint64_t channels = uint64_t{shape.branches} * shape.hidden;
    const float projected = 1 / std::sqrt(static_cast<float>(shape.inputs));
    weights_.key = Put(RandomBf16(random, channels * shape.inputs, projected));
    weights_.value = Put(RandomBf16(random, uint64_t{shape.hidden} * shape.inputs, projected));
    weights_.key_norm = Put(RandomBf16(random, channels, 1));
    weights_.query_norm = Put(RandomBf16(random, channels, 1));
    if (shape.kind == FusedLayerKind::kPaper) {
      weights_.conv_norm = Put(RandomBf16(random, channels, 1));
      weights_.conv = Put(RandomBf16(random, channels * kConvKernel, 0.5f));
    }
    stream_ = device.MakeStream("fused-test").value();
    layer_ = FusedLayer::Create(shape, weights_, device, max_tokens).value();
  }

  const FusedLayerWeights& host_weights() const { return host_weights_; }
  const FusedLayer& layer() const { return *layer_; }
  Stream& stream() { return *stream_; }

  // One step over sequences that have `past` (PastFloats() each) behind them; returns the hidden
  // states and moves `past` on.
  std::vector<uint16_t> Step(const std::vector<uint16_t>& rows, std::vector<uint16_t> hidden,
                             const std::vector<uint32_t>& starts, const std::vector<uint8_t>& dead,
                             std::vector<float>* past, uint32_t open = 1) {
    DeviceBuffer on_device[6];
    const auto put = [&](int i, const auto& values) {
      using Value = typename std::decay_t<decltype(values)>::value_type;
      if (values.empty()) return static_cast<Value*>(nullptr);
      on_device[i] = device_.Allocate(MemoryKind::kDevice, values.size() * sizeof(Value)).value();
      EXPECT_TRUE(
          stream_->Copy(on_device[i].data(), values.data(), values.size() * sizeof(Value)).ok());
      return on_device[i].template as<Value>();
    };
    const std::vector<uint32_t> word = {open};
    const FusedLayerBatch batch{.rows = put(0, rows),
                                .hidden = put(1, hidden),
                                .dead = put(2, dead),
                                .starts = put(3, starts),
                                .past = put(4, *past),
                                .open = put(5, word),
                                .sequences = static_cast<uint32_t>(starts.size() - 1),
                                .tokens = starts.back()};
    const absl::Status status = layer_->Enqueue(batch, *stream_);
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(stream_->Copy(hidden.data(), batch.hidden, hidden.size() * sizeof(uint16_t)).ok());
    if (!past->empty()) {
      EXPECT_TRUE(stream_->Copy(past->data(), batch.past, past->size() * sizeof(float)).ok());
    }
    EXPECT_TRUE(stream_->Synchronize().ok());
    return hidden;
  }

 private:
  const uint16_t* Put(std::vector<uint16_t> values) {
    memory_.push_back(
        device_.Allocate(MemoryKind::kDevice, values.size() * sizeof(uint16_t)).value());
    kept_.push_back(std::move(values));
    auto stream = device_.MakeStream("fused-weights").value();
    EXPECT_TRUE(
        stream->Copy(memory_.back().data(), kept_.back().data(), kept_.back().size() * 2).ok());
    EXPECT_TRUE(stream->Synchronize().ok());
    // The same weight where the reference reads it.
    const uint16_t** const slots[] = {&host_weights_.key,       &host_weights_.value,
                                      &host_weights_.key_norm,  &host_weights_.query_norm,
                                      &host_weights_.conv_norm, &host_weights_.conv};
    *slots[kept_.size() - 1] = kept_.back().data();
    return memory_.back().as<uint16_t>();
  }

  const FusedLayerShape shape_;
  Device& device_;
  std::vector<DeviceBuffer> memory_;
  std::vector<std::vector<uint16_t>> kept_;
  FusedLayerWeights weights_, host_weights_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<FusedLayer> layer_;
};

}  // namespace engram::testing
