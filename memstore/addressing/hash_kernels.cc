#include "memstore/addressing/hash_kernels.h"

#include <algorithm>

namespace engram {
namespace {

ColumnBlock MakeBlock(const AddressScheme& scheme, const LayerAddressing& layer, uint32_t order,
                      uint32_t first_head) {
  ColumnBlock block;
  block.first_column = (order - 2) * scheme.heads_per_order + first_head;
  block.lanes = std::min(kBlockLanes, scheme.heads_per_order - first_head);
  block.order = order;
  for (uint32_t lane = 0; lane < kBlockLanes; ++lane) {
    const bool is_column = lane < block.lanes;
    const uint64_t modulus = is_column ? layer.moduli[block.first_column + lane] : 1;
    block.modulus[lane] = modulus;
    block.inverse[lane] = 1.0 / static_cast<double>(modulus);
    block.offset[lane] = is_column ? layer.offsets[block.first_column + lane] : 0;
    uint64_t coefficient = 1;
    for (uint32_t d = 0; d < kMaxOrder; ++d) {
      block.coefficient[d][lane] = coefficient;
      coefficient = static_cast<uint64_t>(static_cast<unsigned __int128>(coefficient) *
                                          scheme.radix % modulus);
    }
  }
  return block;
}

void AddTerm(const uint32_t* ids, uint64_t multiplier, uint32_t tokens, uint64_t* mixes) {
  for (uint32_t t = 0; t < tokens; ++t) mixes[t] = XorStep(mixes[t], ids[t], multiplier);
}

// Column by column, so that a column's constants stay in registers.
void HashXor(const LayerHash& layer, const WindowTile& tile, RowId* rows, size_t token_stride) {
  uint64_t mixes[kTileTokens];
  std::fill_n(mixes, tile.tokens, 0);
  uint32_t terms = 0;
  for (const ColumnBlock& block : layer.blocks) {
    for (; terms < block.order; ++terms) {
      AddTerm(tile.ids[terms], layer.multipliers[terms], tile.tokens, mixes);
    }
    const uint32_t end = block.first_column + block.lanes;
    for (uint32_t column = block.first_column; column < end; ++column) {
      const Reciprocal reciprocal = layer.reciprocals[column];
      const uint64_t offset = layer.offsets[column];
      RowId* out = rows + column;
      for (uint32_t t = 0; t < tile.tokens; ++t, out += token_stride) {
        *out = Modulo(mixes[t], reciprocal) + offset;
      }
    }
  }
}

void HashPolynomial(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                    size_t token_stride) {
  for (uint32_t t = 0; t < tile.tokens; ++t, rows += token_stride) {
    for (const ColumnBlock& block : layer.blocks) {
      for (uint32_t lane = 0; lane < block.lanes; ++lane) {
        const uint32_t column = block.first_column + lane;
        uint64_t sum = 0;
        for (uint32_t d = 0; d < block.order; ++d) {
          sum = PolynomialStep(sum, tile.ids[d][t], block.coefficient[d][lane]);
        }
        rows[column] = Modulo(sum, layer.reciprocals[column]) + layer.offsets[column];
      }
    }
  }
}

bool VectorsAreExact(const std::vector<LayerAddressing>& layers) {
  return std::all_of(layers.begin(), layers.end(), [](const LayerAddressing& layer) {
    return std::all_of(layer.moduli.begin(), layer.moduli.end(), [](uint64_t modulus) {
      return modulus >= kMinVectorModulus && modulus <= kMaxVectorModulus;
    });
  });
}

}  // namespace

LayerHash::LayerHash(const AddressScheme& scheme, const LayerAddressing& layer)
    : combine(scheme.combine),
      max_order(scheme.max_order),
      heads_per_order(scheme.heads_per_order),
      offsets(layer.offsets) {
  std::copy(layer.multipliers.begin(), layer.multipliers.end(), multipliers);
  for (const uint64_t modulus : layer.moduli) reciprocals.push_back(MakeReciprocal(modulus));
  for (uint32_t order = 2; order <= max_order; ++order) {
    for (uint32_t head = 0; head < heads_per_order; head += kBlockLanes) {
      blocks.push_back(MakeBlock(scheme, layer, order, head));
    }
  }
}

void HashTileScalar(const LayerHash& layer, const WindowTile& tile, RowId* rows,
                    size_t token_stride) {
  const bool is_xor = layer.combine == Combine::kXorOfProducts;
  (is_xor ? HashXor : HashPolynomial)(layer, tile, rows, token_stride);
}

std::vector<NamedHashKernel> HashKernels() {
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
  return {{"avx512", HashTileAvx512, false, has_avx512},
          {"avx2", HashTileAvx2, false, has_avx2},
          {"scalar", HashTileScalar, true, true}};
}

HashKernel ChooseHashKernel(const std::vector<LayerAddressing>& layers) {
  const bool vectors_are_exact = VectorsAreExact(layers);
  for (const NamedHashKernel& kernel : HashKernels()) {
    if (kernel.supported && (kernel.any_modulus || vectors_are_exact)) return kernel.hash;
  }
  return HashTileScalar;
}

}  // namespace engram
