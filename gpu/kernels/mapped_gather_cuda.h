// The CUDA kernel of mapped_gather.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/kernels/mapped_gather_loop.h"

namespace engram {

// What the kernel reads; as MappedGather, in plain types.
struct MappedGatherArguments {
  const std::byte* table;
  GatherRows from;
  uint32_t row_bytes;
  const uint64_t* ids;
  uint32_t count;
  std::byte* rows;
  uint32_t* bad_ids;
};

// Launches it on a cudaStream_t with at most `blocks` blocks, each of which keeps one
// multiprocessor. "" or the device's error.
const char* LaunchMappedGather(const MappedGatherArguments& gather, uint32_t blocks, void* stream);

}  // namespace engram
