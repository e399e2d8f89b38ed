// CUDA's backbone; where there is no toolkit it says so.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gpu/simulator/backbone.h"

namespace engram::simulator {

// UNIMPLEMENTED: built without a toolkit; FAILED_PRECONDITION: no cuBLAS on this machine.
absl::StatusOr<std::unique_ptr<Backbone>> MakeCudaBackbone(const BackboneShape& shape,
                                                           uint32_t max_tokens, Device& device);

// Writes the device's clock, in ns, to `at` (pinned) where the stream stands. "" or why not.
absl::Status EnqueueCudaStamp(int64_t* at, Stream& stream);

// Whether cuBLAS is on this machine: in the loader's directories, or in `directories`.
// FAILED_PRECONDITION names the library and how to have it found. UNIMPLEMENTED as above.
absl::Status FindCublas(const std::vector<std::string>& directories);

}  // namespace engram::simulator
