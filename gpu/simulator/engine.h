// An engine's loop over a device: blocks of a backbone, Engram layers among them, rows by one way
// or another; and what it took.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gpu/kernels/fused_layer.h"
#include "gpu/simulator/backbone.h"
#include "gpu/simulator/ways.h"

namespace engram::simulator {

struct Taken {
  uint64_t steps = 0, tokens = 0;
  int64_t ns = 0;  // of all steps
  int64_t exposed_ns =
      0;  // of it: between the end of the blocks before a layer and the layer's beginning
};

class Engine {
 public:
  // Layers of `manifest` that the model's blocks have; each reads rows as bf16. INVALID_ARGUMENT:
  // rows that have no values, or a layer behind the last block. Else Backbone::Create's.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(const Manifest& manifest,
                                                        const BackboneShape& shape,
                                                        uint32_t branches, Device& device,
                                                        uint32_t max_tokens);

  // Runs `steps` once. `way` is null: the model has no Engram layers. Prefill steps are begun one
  // ahead, for their tokens are known; decode steps when the step before is over.
  absl::Status Run(absl::Span<const TrafficStep> steps, Way* way, Taken* taken);

 private:
  struct Layer {
    uint32_t number = 0;
    uint32_t inputs = 0;
    DeviceBuffer weights;
    std::unique_ptr<FusedLayer> fused;
  };

  Engine() = default;
  absl::Status AddLayer(const LayerTableSpec& spec, uint32_t columns, uint32_t branches,
                        Device& device, uint32_t max_tokens);
  absl::Status Allocate(uint64_t hidden_bytes, Device& device);
  absl::Status Enqueue(const TrafficStep& step, Way* way);
  absl::Status EnqueueLayer(const Layer& layer, const TrafficStep& step, Way& way, size_t place);
  // The time at which the stream gets here, in ns of the device's clock.
  absl::Status Stamp(int64_t* at);

  std::unique_ptr<Backbone> backbone_;
  std::vector<Layer> layers_;
  std::unique_ptr<Stream> stream_;
  DeviceBuffer hidden_, starts_;
  DeviceBuffer stamps_;  // pinned: of each layer of the step, before and after its wait
};

}  // namespace engram::simulator
