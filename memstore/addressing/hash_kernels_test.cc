#include "memstore/addressing/hash_kernels.h"

#include <random>
#include <string>

#include "gtest/gtest.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

// Every kernel is held against `%` alone, on windows of its own: no window logic takes part.
class HashKernelTest : public testing::TestWithParam<NamedHashKernel> {
 protected:
  void SetUp() override {
    if (!GetParam().supported) GTEST_SKIP() << "this machine has no " << GetParam().name;
  }

  // Row ids of `tile` in an array with a guard after each token's columns.
  std::vector<RowId> Hash(const LayerHash& layer, const WindowTile& tile, size_t stride) {
    std::vector<RowId> rows;
    rows.reserve(tile.tokens * stride + 1);  // so that no tokens have a place as well
    rows.resize(tile.tokens * stride, kGuard);
    GetParam().hash(layer, tile, rows.data(), stride);
    return rows;
  }

  static constexpr RowId kGuard = 0xABABABABABABABAB;
  std::mt19937_64 random_{1};
};

uint64_t ExpectedRow(const AddressScheme& scheme, const LayerAddressing& layer,
                     const WindowTile& tile, uint32_t t, uint32_t column) {
  const uint32_t order = column / scheme.heads_per_order + 2;
  unsigned __int128 mix = 0, power = 1;
  for (uint32_t k = 0; k < order; ++k) {
    const uint64_t id = tile.ids[k][t];
    if (scheme.combine == Combine::kXorOfProducts) {
      mix ^= static_cast<unsigned __int128>(id) * static_cast<uint64_t>(layer.multipliers[k]);
    } else {
      mix += id * power;
      power = power * scheme.radix % layer.moduli[column];
    }
  }
  return static_cast<uint64_t>(mix % layer.moduli[column]) + layer.offsets[column];
}

AddressScheme SchemeOf(Combine combine, uint32_t max_order, uint32_t heads, uint64_t base,
                       std::mt19937_64* random) {
  AddressScheme scheme;
  scheme.combine = combine;
  scheme.max_order = max_order;
  scheme.heads_per_order = heads;
  scheme.vocab_size = 131072;
  scheme.radix = combine == Combine::kPolynomial ? 131072 : 0;
  LayerAddressing layer;
  for (uint32_t k = 0; k < max_order && combine == Combine::kXorOfProducts; ++k) {
    layer.multipliers.push_back(static_cast<int64_t>((*random)() >> 18));
  }
  uint64_t rows = 0;
  for (uint32_t c = 0; c < scheme.Columns(); ++c) {
    layer.moduli.push_back(base + c);
    layer.offsets.push_back(rows);
    rows += base + c;
  }
  scheme.layers = {layer};
  return scheme;
}

WindowTile RandomTile(const AddressScheme& scheme, uint32_t tokens, std::mt19937_64* random) {
  WindowTile tile = {};
  tile.tokens = tokens;
  const uint32_t extremes[] = {0, 1, scheme.vocab_size - 1};
  for (uint32_t k = 0; k < scheme.max_order; ++k) {
    for (uint32_t t = 0; t < tokens; ++t) {
      const uint64_t drawn = (*random)();
      tile.ids[k][t] = drawn % 4 == 0 ? extremes[drawn / 4 % 3] : drawn / 4 % scheme.vocab_size;
    }
  }
  return tile;
}

TEST_P(HashKernelTest, EveryShapeAndTail) {
  for (const Combine combine : {Combine::kXorOfProducts, Combine::kPolynomial}) {
    for (uint32_t max_order = 2; max_order <= kMaxOrder; ++max_order) {
      for (const uint32_t heads : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 20, 64}) {
        const AddressScheme scheme = SchemeOf(combine, max_order, heads, 16000057, &random_);
        ASSERT_TRUE(Validate(scheme).ok()) << Validate(scheme);
        const LayerHash layer(scheme, scheme.layers[0]);
        const uint32_t tokens = random_() % kTileTokens + 1;
        const WindowTile tile = RandomTile(scheme, tokens, &random_);
        const size_t stride = scheme.Columns() + random_() % 3;
        const std::vector<RowId> rows = Hash(layer, tile, stride);
        for (uint32_t t = 0; t < tokens; ++t) {
          for (uint32_t c = 0; c < stride; ++c) {
            const RowId want =
                c < scheme.Columns() ? ExpectedRow(scheme, scheme.layers[0], tile, t, c) : kGuard;
            ASSERT_EQ(rows[t * stride + c], want)
                << "order " << max_order << ", heads " << heads << ", token " << t << " of "
                << tokens << ", column " << c;
          }
        }
      }
    }
  }
}

TEST_P(HashKernelTest, EveryNumberOfTokens) {
  const AddressScheme scheme = SchemeOf(Combine::kXorOfProducts, 4, 8, 16000057, &random_);
  const LayerHash layer(scheme, scheme.layers[0]);
  for (uint32_t tokens = 0; tokens <= kTileTokens; ++tokens) {
    const WindowTile tile = RandomTile(scheme, tokens, &random_);
    const std::vector<RowId> rows = Hash(layer, tile, scheme.Columns());
    for (uint32_t t = 0; t < tokens; ++t) {
      for (uint32_t c = 0; c < scheme.Columns(); ++c) {
        ASSERT_EQ(rows[t * scheme.Columns() + c],
                  ExpectedRow(scheme, scheme.layers[0], tile, t, c));
      }
    }
  }
}

// A window of (1, 0) gives the first multiplier as the mix, so any mix can be put in.
TEST_P(HashKernelTest, ModuloIsExactAtItsEdges) {
  std::vector<uint64_t> bases = {
      kMinVectorModulus, kMinVectorModulus + 1,   16000057,          16000889,
      20000003,          (uint64_t{1} << 24) - 1, uint64_t{1} << 30, kMaxVectorModulus - 7};
  if (GetParam().any_modulus) bases.insert(bases.end(), {1, 2, 1000, uint64_t{1} << 36});
  constexpr uint64_t kLargest = (uint64_t{1} << 63) - 1;
  WindowTile tile = {};
  tile.tokens = 1;
  tile.ids[0][0] = 1;
  tile.ids[1][0] = 0;
  for (const uint64_t base : bases) {
    AddressScheme scheme = SchemeOf(Combine::kXorOfProducts, 2, 8, base, &random_);
    LayerHash layer(scheme, scheme.layers[0]);
    std::vector<uint64_t> mixes = {0, 1, kLargest, kLargest - 1, uint64_t{1} << 53};
    for (const uint64_t modulus : scheme.layers[0].moduli) {
      const uint64_t largest_quotient = kLargest / modulus;
      for (int i = 0; i < 2000; ++i) {
        const uint64_t quotient = i < 100 ? largest_quotient - i : random_() % largest_quotient;
        for (const int around : {-1, 0, 1})
          mixes.push_back((quotient * modulus + around) & kLargest);
        mixes.push_back((quotient * modulus + modulus / 2) & kLargest);
        mixes.push_back(random_() >> (random_() % 63 + 1));
      }
    }
    for (const uint64_t mix : mixes) {
      layer.multipliers[0] = mix;
      const std::vector<RowId> rows = Hash(layer, tile, 8);
      for (uint32_t c = 0; c < 8; ++c) {
        ASSERT_EQ(rows[c], mix % scheme.layers[0].moduli[c] + scheme.layers[0].offsets[c])
            << mix << " mod " << scheme.layers[0].moduli[c];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, HashKernelTest, testing::ValuesIn(HashKernels()),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(ChooseHashKernelTest, OnlyTheScalarOneTakesEveryModulus) {
  std::mt19937_64 random(1);
  for (const uint64_t base : {uint64_t{1}, kMinVectorModulus - 1, kMaxVectorModulus}) {
    const AddressScheme scheme = SchemeOf(Combine::kXorOfProducts, 2, 8, base, &random);
    EXPECT_EQ(ChooseHashKernel(scheme.layers), &HashTileScalar) << base;
  }
  const AddressScheme usual = SchemeOf(Combine::kXorOfProducts, 2, 8, 16000057, &random);
  for (const NamedHashKernel& kernel : HashKernels()) {
    if (!kernel.supported) continue;
    EXPECT_EQ(ChooseHashKernel(usual.layers), kernel.hash) << "the first supported one";
    break;
  }
}

}  // namespace
}  // namespace engram
