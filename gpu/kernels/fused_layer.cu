#include <cuda_runtime.h>

#include <algorithm>

#include "gpu/kernels/fused_layer_cuda.h"

namespace engram {
namespace {

constexpr uint32_t kTile = 32;      // outputs and tokens of a block of the projection
constexpr uint32_t kThreads = 256;  // of the other kernels
constexpr uint32_t kWarp = 32;
// Grids have at most this many blocks along y and z.
constexpr uint32_t kMaxGridY = 65535;

__global__ void FindSequences(FusedLayerBatch batch, uint32_t* sequence_of) {
  for (uint32_t s = blockIdx.x; s < batch.sequences; s += gridDim.x) {
    for (uint32_t t = batch.starts[s] + threadIdx.x; t < batch.starts[s + 1]; t += blockDim.x)
      sequence_of[t] = s;
  }
}

// out[token][o] = weights[o] . rows[token]: a tile of kTile outputs by kTile tokens a block, a
// piece of the inputs at a time through shared memory.
__global__ void Project(const uint16_t* weights, const uint16_t* rows, uint32_t tokens,
                        uint32_t outputs, uint32_t inputs, float* out) {
  __shared__ float weight_tile[kTile][kTile + 1], row_tile[kTile][kTile + 1];
  const uint32_t x = threadIdx.x, y = threadIdx.y;
  const uint32_t output = blockIdx.x * kTile;
  for (uint32_t first = blockIdx.y * kTile; first < tokens; first += gridDim.y * kTile) {
    float sum = 0;
    for (uint32_t at = 0; at < inputs; at += kTile) {
      const bool inside = at + x < inputs;
      weight_tile[y][x] =
          inside && output + y < outputs
              ? FloatOfBf16(weights[static_cast<uint64_t>(output + y) * inputs + at + x])
              : 0.0f;
      row_tile[y][x] = inside && first + y < tokens
                           ? FloatOfBf16(rows[static_cast<uint64_t>(first + y) * inputs + at + x])
                           : 0.0f;
      __syncthreads();
#pragma unroll
      for (uint32_t k = 0; k < kTile; ++k) sum += weight_tile[x][k] * row_tile[y][k];
      __syncthreads();
    }
    if (output + x < outputs && first + y < tokens) {
      out[static_cast<uint64_t>(first + y) * outputs + output + x] = sum;
    }
  }
}

__device__ float SumOfBlock(float value) {
  __shared__ float parts[kThreads / kWarp];
  for (uint32_t offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_down_sync(~0u, value, offset);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0;
  for (uint32_t i = 0; i < kThreads / kWarp; ++i) sum += parts[i];
  return sum;
}

// A block a token and branch.
__global__ void Gate(FusedLayerShape shape, FusedLayerWeights weights, FusedLayerBatch batch,
                     FusedLayerScratch scratch) {
  const uint32_t branch = blockIdx.y;
  for (uint32_t token = blockIdx.x; token < batch.tokens; token += gridDim.x) {
    const uint64_t at = static_cast<uint64_t>(token) * shape.branches + branch;
    GateSums sums;
    for (uint32_t c = threadIdx.x; c < shape.hidden; c += blockDim.x) {
      AddChannel(shape, weights, batch, scratch, token, branch, c, &sums);
    }
    sums = {SumOfBlock(sums.dot), SumOfBlock(sums.query), SumOfBlock(sums.key),
            SumOfBlock(sums.value)};
    if (threadIdx.x != 0) continue;
    const bool shut = IsShut(batch, token);
    const float gate = shut ? 0.0f : GateOf(shape, sums);
    scratch.gates[at] = gate;
    scratch.scales[at] = ScaleOf(shape, gate, sums);
  }
}

__global__ void Add(FusedLayerShape shape, FusedLayerWeights weights, FusedLayerBatch batch,
                    FusedLayerScratch scratch) {
  const uint32_t channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= shape.hidden) return;
  for (uint32_t token = blockIdx.y; token < batch.tokens; token += gridDim.y) {
    AddToHidden(shape, weights, batch, scratch, token, blockIdx.z, channel);
  }
}

__global__ void Advance(FusedLayerShape shape, FusedLayerWeights weights, FusedLayerBatch batch,
                        FusedLayerScratch scratch) {
  const uint32_t channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= shape.hidden) return;
  for (uint32_t s = blockIdx.y; s < batch.sequences; s += gridDim.y) {
    AdvancePast(shape, weights, batch, scratch, s, blockIdx.z, channel);
  }
}

}  // namespace

const char* LaunchFusedLayer(const FusedLayerShape& shape, const FusedLayerWeights& weights,
                             const FusedLayerBatch& batch, const FusedLayerScratch& scratch,
                             void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const auto tiles = [](uint32_t count) { return (count + kTile - 1) / kTile; };
  const dim3 tile(kTile, kTile);
  const uint32_t outputs = shape.branches * shape.hidden;
  const uint32_t token_tiles = std::min(tiles(batch.tokens), kMaxGridY);
  Project<<<dim3(tiles(outputs), token_tiles), tile, 0, on>>>(weights.key, batch.rows, batch.tokens,
                                                              outputs, shape.inputs, scratch.keys);
  Project<<<dim3(tiles(shape.hidden), token_tiles), tile, 0, on>>>(
      weights.value, batch.rows, batch.tokens, shape.hidden, shape.inputs, scratch.values);
  Gate<<<dim3(batch.tokens, shape.branches), kThreads, 0, on>>>(shape, weights, batch, scratch);
  const uint32_t channels = (shape.hidden + kThreads - 1) / kThreads;
  if (shape.kind == FusedLayerKind::kPaper) {
    FindSequences<<<batch.sequences, kThreads, 0, on>>>(batch, scratch.sequence_of);
  }
  Add<<<dim3(channels, std::min(batch.tokens, kMaxGridY), shape.branches), kThreads, 0, on>>>(
      shape, weights, batch, scratch);
  if (shape.kind == FusedLayerKind::kPaper) {
    Advance<<<dim3(channels, std::min(batch.sequences, kMaxGridY), shape.branches), kThreads, 0,
              on>>>(shape, weights, batch, scratch);
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? "" : cudaGetErrorString(error);
}

}  // namespace engram
