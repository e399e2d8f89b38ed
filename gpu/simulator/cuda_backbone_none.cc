// Takes the place of cuda_backbone.cc where there is no CUDA toolkit.
#include "gpu/simulator/cuda_backbone.h"

namespace engram::simulator {
namespace {

absl::Status NoToolkit() {
  return absl::UnimplementedError(
      "built without a CUDA toolkit: take --backend host, or build where nvcc is");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backbone>> MakeCudaBackbone(const BackboneShape&, uint32_t,
                                                           Device&) {
  return NoToolkit();
}
absl::Status EnqueueCudaStamp(int64_t*, Stream&) { return NoToolkit(); }
absl::Status FindCublas(const std::vector<std::string>&) { return NoToolkit(); }

}  // namespace engram::simulator
