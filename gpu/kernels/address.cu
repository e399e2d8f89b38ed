#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/kernels/address_cuda.h"

namespace engram {
namespace {

// About this many threads a block; a whole number of columns, and enough for a tile's windows.
constexpr uint32_t kThreads = 256;
// Blocks that a multiprocessor has room for at that size.
constexpr uint32_t kBlocksAMultiprocessor = 8;
// All heads of all orders at once: 7 orders of 64 heads.
constexpr uint32_t kMaxThreads = 448;

__device__ void Report(uint64_t word, uint64_t* error) {
  if (word != 0) {
    atomicMax(reinterpret_cast<unsigned long long*>(error), static_cast<unsigned long long>(word));
  }
}

// Tiles of `tile_tokens` lie along x; along y the layers are dealt out.
__global__ void __launch_bounds__(kMaxThreads)
    Address(AddressTables tables, AddressTokens batch, uint32_t tile_tokens, uint64_t* rows,
            uint64_t* error) {
  __shared__ AddressTile tile;
  if (blockIdx.x == 0 && blockIdx.y == 0) {
    for (uint32_t s = threadIdx.x; s < batch.sequences; s += blockDim.x) {
      if (!StartsAreGood(batch, s)) Report(AddressErrorWord(0, AddressError::kStarts), error);
    }
  }
  const uint32_t first = blockIdx.x * tile_tokens;
  const uint32_t tokens = min(tile_tokens, batch.tokens - first);
  uint32_t window[kMaxWindow];
  if (threadIdx.x < tokens) {
    Report(WindowOfToken(tables, batch, first + threadIdx.x, window), error);
  }
  for (uint32_t l = blockIdx.y; l < tables.layers; l += gridDim.y) {
    const LayerColumns layer = ColumnsOf(tables, l);
    if (layer.columns == 0) continue;  // the same for all threads of the block
    __syncthreads();
    if (threadIdx.x < tokens) MixToken(tables, l, window, threadIdx.x, &tile);
    __syncthreads();
    const uint32_t row = threadIdx.x / layer.columns;
    const uint32_t rows_at_once = blockDim.x / layer.columns;
    if (row < rows_at_once) {
      HashColumn(tables, layer, threadIdx.x - row * layer.columns, tile, row, rows_at_once, tokens,
                 RowIdsOf(layer, batch.tokens, first, rows));
    }
  }
}

__global__ void Advance(AddressTables tables, AddressTokens batch, const uint32_t* accepted,
                        uint32_t* lookback, uint64_t* error) {
  const uint32_t s = blockIdx.x * blockDim.x + threadIdx.x;
  if (s >= batch.sequences) return;
  const uint32_t tokens = accepted == nullptr ? batch.starts[s + 1] - batch.starts[s] : accepted[s];
  Report(AdvanceSequence(tables, batch, s, tokens,
                         lookback + static_cast<uint64_t>(s) * (tables.order - 1)),
         error);
}

const char* LastError() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace

const char* LaunchAddress(const AddressTables& tables, const AddressTokens& batch, uint64_t* rows,
                          uint64_t* error, uint32_t multiprocessors, void* stream) {
  const uint32_t columns = std::max(tables.columns, 1u);
  // No more tokens at once than a tile has: a block of few columns would be too large else.
  const uint32_t at_once = std::clamp(kThreads / columns, 1u, kAddressTile);
  const uint32_t threads = std::max(at_once * columns, kAddressTile);
  // Large tiles where there are tokens enough for all multiprocessors; else tiles small enough to
  // give each a block, and a layer to each block.
  const uint64_t places = uint64_t{multiprocessors} * kBlocksAMultiprocessor;
  const bool is_large = batch.tokens >= places * kAddressTile;
  const uint32_t layers = is_large ? 1 : tables.layers;
  const uint64_t wanted = uint64_t{batch.tokens} * layers / places;
  const auto tile_tokens =
      static_cast<uint32_t>(std::clamp<uint64_t>(wanted, at_once, kAddressTile));
  const dim3 blocks((batch.tokens + tile_tokens - 1) / tile_tokens, layers);
  Address<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(tables, batch, tile_tokens,
                                                                     rows, error);
  return LastError();
}

const char* LaunchAdvance(const AddressTables& tables, const AddressTokens& batch,
                          const uint32_t* accepted, uint32_t* lookback, uint64_t* error,
                          void* stream) {
  const uint32_t blocks = (batch.sequences + kThreads - 1) / kThreads;
  Advance<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(tables, batch, accepted,
                                                                      lookback, error);
  return LastError();
}

}  // namespace engram
