// Takes the place of mapped_gather.cu where there is no CUDA toolkit.
#include "gpu/kernels/mapped_gather_cuda.h"

namespace engram {

const char* LaunchMappedGather(const MappedGatherArguments&, uint32_t, void*) {
  return "built without a CUDA toolkit";
}

}  // namespace engram
