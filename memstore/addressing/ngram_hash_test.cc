#include "memstore/addressing/ngram_hash.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "memstore/addressing/testing/golden.h"

namespace engram {
namespace {

// Around every border that a modulus and a 64-bit value have.
std::vector<uint64_t> EdgeModuli() {
  std::vector<uint64_t> moduli = {1,      2,        3,        5,        7,       101,
                                  646403, 16000057, 16000889, 20000003, 10223617};
  for (int bit = 2; bit < 63; ++bit) {
    for (const int around : {-1, 0, 1}) moduli.push_back((uint64_t{1} << bit) + around);
  }
  moduli.push_back((uint64_t{1} << 63) - 25);
  moduli.push_back(uint64_t{1} << 63);
  return moduli;
}

std::vector<uint64_t> EdgeValues(uint64_t modulus, std::mt19937_64* random) {
  std::vector<uint64_t> values = {
      0, 1, (uint64_t{1} << 63) - 1, uint64_t{1} << 63, UINT64_MAX - 1, UINT64_MAX};
  const uint64_t largest_quotient = UINT64_MAX / modulus;
  for (const uint64_t quotient :
       {uint64_t{1}, largest_quotient, largest_quotient / 2, (*random)() % largest_quotient + 1}) {
    for (const int around : {-1, 0, 1}) values.push_back(quotient * modulus + around);
  }
  for (int i = 0; i < 1000; ++i) values.push_back((*random)() >> ((*random)() % 64));
  return values;
}

TEST(ModuloTest, IsExactForEveryModulusAndValue) {
  std::mt19937_64 random(1);
  for (const uint64_t modulus : EdgeModuli()) {
    const Reciprocal reciprocal = MakeReciprocal(modulus);
    for (const uint64_t value : EdgeValues(modulus, &random)) {
      ASSERT_EQ(Modulo(value, reciprocal), value % modulus) << value << " mod " << modulus;
    }
  }
}

TEST(ModuloTest, FlooredModuloIsNeverNegative) {
  std::mt19937_64 random(2);
  for (const uint64_t modulus : EdgeModuli()) {
    const Reciprocal reciprocal = MakeReciprocal(modulus);
    for (const uint64_t bits : EdgeValues(modulus, &random)) {
      const int64_t value = static_cast<int64_t>(bits);
      const __int128 wide = static_cast<__int128>(modulus);
      const __int128 floored = (value % wide + wide) % wide;
      ASSERT_EQ(FlooredModulo(value, reciprocal), static_cast<uint64_t>(floored))
          << value << " mod " << modulus;
    }
  }
}

TEST(WindowTest, BlockingIsSticky) {
  uint32_t blocked = 0;
  EXPECT_EQ(WindowStep(5, 9, &blocked), 5u);
  EXPECT_EQ(WindowStep(0, 9, &blocked), 0u);
  EXPECT_EQ(WindowStep(kBlockedEntry, 9, &blocked), 9u);
  EXPECT_EQ(WindowStep(6, 9, &blocked), 9u);
}

TEST(PolynomialTest, SumsTermByTerm) {
  EXPECT_EQ(PolynomialStep(PolynomialStep(0, 11, 1), 7, 1000), 7011u);
}

// onnxruntime's NGramHashMapping: ids may be negative, products wrap, the modulo is floored,
// columns have no offsets.
TEST(XorMixTest, OnnxruntimeCases) {
  const nlohmann::json& golden = KnownAnswers()["onnxruntime_ngram_hash_mapping"];
  const auto multipliers = golden["multipliers"].get<std::vector<uint64_t>>();
  const auto moduli = golden["vocab_sizes"].get<std::vector<uint64_t>>();
  const size_t max_order = golden["max_ngram_size"], heads = golden["heads"];
  for (const nlohmann::json& one : golden["cases"]) {
    const auto ids = one["ids"].get<std::vector<int64_t>>();
    const int64_t pad = one["pad"];
    std::vector<std::vector<uint64_t>> rows(ids.size());
    for (size_t position = 0; position < ids.size(); ++position) {
      uint64_t mix = XorStep(0, static_cast<uint64_t>(ids[position]), multipliers[0]);
      for (size_t k = 1; k < max_order; ++k) {
        const int64_t id = k <= position ? ids[position - k] : pad;
        mix = XorStep(mix, static_cast<uint64_t>(id), multipliers[k]);
        for (size_t head = 0; head < heads; ++head) {
          const Reciprocal reciprocal = MakeReciprocal(moduli[(k - 1) * heads + head]);
          rows[position].push_back(FlooredModulo(static_cast<int64_t>(mix), reciprocal));
        }
      }
    }
    EXPECT_EQ(nlohmann::json(rows), one["rows"]) << one;
  }
}

}  // namespace
}  // namespace engram
