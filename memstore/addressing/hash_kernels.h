// The inner loop of addressing: from windows of ids to row ids, a tile of tokens at a time, one
// version for each instruction set. All give the same bytes.
//
// A LayerHash is immutable after its construction and shared between threads. The kernels allocate
// nothing. Cost: addresser_benchmark.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memstore/addressing/ngram_hash.h"
#include "memstore/addressing/scheme.h"

namespace engram {

// Windows, mixes and the row ids of one layer stay in the first-level cache together.
inline constexpr uint32_t kTileTokens = 64;

inline constexpr uint32_t kBlockLanes = 8;
// The tokens of a tile are taken in runs of eight, the last one whole too: loops of a fixed length
// make a tile of one token cheap.
constexpr uint32_t RoundUpToLanes(uint32_t tokens) {
  return (tokens + kBlockLanes - 1) / kBlockLanes * kBlockLanes;
}

// ids[k][t]: what token t of the tile hashes at lookback distance k, blocked positions already
// padded. From `tokens` up to RoundUpToLanes(tokens) there are ids of no meaning.
struct WindowTile {
  uint32_t tokens = 0;
  alignas(64) uint32_t ids[kMaxOrder][kTileTokens];
};

// Constants of up to eight columns of one order, side by side as vector registers want them. Lanes
// past the order's last column hold a modulus of one.
struct alignas(64) ColumnBlock {
  uint32_t first_column = 0;
  uint32_t lanes = 0;
  uint32_t order = 0;
  alignas(64) double inverse[kBlockLanes];  // 1 / modulus
  alignas(64) uint64_t modulus[kBlockLanes];
  alignas(64) uint64_t offset[kBlockLanes];
  alignas(64) uint64_t
      coefficient[kMaxOrder][kBlockLanes];  // polynomial schemes: radix^d mod modulus
};

// What the kernels read of one layer.
struct LayerHash {
  // `scheme` is valid and `layer` is one of its own.
  LayerHash(const AddressScheme& scheme, const LayerAddressing& layer);

  Combine combine;
  uint32_t max_order;
  uint32_t heads_per_order;
  uint64_t multipliers[kMaxOrder] = {};
  std::vector<ColumnBlock> blocks;      // in column order
  std::vector<Reciprocal> reciprocals;  // [columns]
  std::vector<uint64_t> offsets;        // [columns]
};

// The vector kernels estimate a quotient in double precision and correct it once. For a mix below
// 2^63 and a modulus in this range the quotient is at most 2^50, so the mix's rounding, the
// inverse's, and the estimate's own put it less than 1/4 + 1/2 from the true one; the rest then
// lies between -modulus and modulus and fits 32 bits with its sign.
inline constexpr uint64_t kMinVectorModulus = uint64_t{1} << 13;
inline constexpr uint64_t kMaxVectorModulus = (uint64_t{1} << 31) - 1;
// Added to a double below 2^51 it leaves the nearest integer in the low bits of the sum.
inline constexpr double kRoundToInteger = 4503599627370496.0;  // 2^52
// One order's mixes of a tile, as they are and rounded to double.
struct VectorMixes {
  alignas(64) uint64_t exact[kTileTokens];
  alignas(64) double rounded[kTileTokens];
};

// Row ids of `tile`: token t, column c at rows[t * token_stride + c].
using HashKernel = void (*)(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                            size_t token_stride);

// Any modulus.
void HashTileScalar(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                    size_t token_stride);
// Moduli in kMinVectorModulus..kMaxVectorModulus; AVX2 and FMA.
void HashTileAvx2(const LayerHash& layer, const WindowTile& tile, RowId* rows, size_t token_stride);
// The same moduli; AVX-512 F and DQ.
void HashTileAvx512(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                    size_t token_stride);

struct NamedHashKernel {
  const char* name;
  HashKernel hash;
  bool any_modulus;
  bool supported;  // by this machine
};
// Fastest first; the last one is the scalar one.
std::vector<NamedHashKernel> HashKernels();
// The fastest that this machine has and that is exact for the layers' moduli.
HashKernel ChooseHashKernel(const std::vector<LayerAddressing>& layers);

}  // namespace engram
