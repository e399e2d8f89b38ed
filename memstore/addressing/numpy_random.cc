#include "memstore/addressing/numpy_random.h"

#include <array>
#include <cstddef>

namespace engram {
namespace {

using Uint128 = unsigned __int128;

constexpr Uint128 Join(uint64_t high, uint64_t low) {
  return (static_cast<Uint128>(high) << 64) | low;
}

constexpr Uint128 kPcgMultiplier = Join(0x2360ED051FC65DA4, 0x4385DF649FCCF645);

// numpy.random.SeedSequence(seed).generate_state(4, uint64), for a seed of at most 64 bits.
class SeedSequence {
 public:
  explicit SeedSequence(uint64_t seed) {
    const std::array<uint32_t, 4> entropy = {static_cast<uint32_t>(seed),
                                             static_cast<uint32_t>(seed >> 32), 0, 0};
    uint32_t constant = 0x43b0d7e5;
    for (size_t i = 0; i < pool_.size(); ++i) pool_[i] = Hash(entropy[i], 0x931e8875, &constant);
    for (size_t from = 0; from < pool_.size(); ++from) {
      for (size_t to = 0; to < pool_.size(); ++to) {
        if (from != to) pool_[to] = Mix(pool_[to], Hash(pool_[from], 0x931e8875, &constant));
      }
    }
  }

  std::array<uint64_t, 4> State() const {
    std::array<uint64_t, 4> state = {};
    uint32_t constant = 0x8b51f9dd;
    for (size_t i = 0; i < 8; ++i) {
      const uint64_t word = Hash(pool_[i % pool_.size()], 0x58f38ded, &constant);
      state[i / 2] |= word << (i % 2 * 32);
    }
    return state;
  }

 private:
  static uint32_t Hash(uint32_t value, uint32_t multiplier, uint32_t* constant) {
    value ^= *constant;
    *constant *= multiplier;
    value *= *constant;
    return value ^ (value >> 16);
  }
  static uint32_t Mix(uint32_t a, uint32_t b) {
    const uint32_t mixed = 0xca01f9dd * a - 0x4973f715 * b;
    return mixed ^ (mixed >> 16);
  }

  std::array<uint32_t, 4> pool_ = {};
};

}  // namespace

NumpyRandom::NumpyRandom(uint64_t seed) {
  const std::array<uint64_t, 4> words = SeedSequence(seed).State();
  increment_ = (Join(words[2], words[3]) << 1) | 1;
  Next();
  state_ += Join(words[0], words[1]);
  Next();
}

uint64_t NumpyRandom::Next() {
  state_ = state_ * kPcgMultiplier + increment_;
  const uint64_t folded = static_cast<uint64_t>(state_ >> 64) ^ static_cast<uint64_t>(state_);
  const unsigned rotation = static_cast<unsigned>(state_ >> 122);
  return (folded >> rotation) | (folded << (-rotation & 63));
}

uint64_t NumpyRandom::Below(uint64_t bound) {
  // Draws whose low half lies below this would make some results likelier than others.
  const uint64_t threshold = -bound % bound;
  Uint128 product;
  do {
    product = static_cast<Uint128>(Next()) * bound;
  } while (static_cast<uint64_t>(product) < threshold);
  return static_cast<uint64_t>(product >> 64);
}

}  // namespace engram
