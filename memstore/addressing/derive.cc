// The derivation of an address scheme from a family (families.h).

#include <algorithm>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/families.h"
#include "memstore/addressing/numpy_random.h"
#include "memstore/addressing/primes.h"
#include "memstore/base/splitmix64.h"

namespace engram {
namespace {

// Between the seeds of one layer and the next.
constexpr uint64_t kLayerSeedStep = 10007;

uint32_t HashedVocabSize(const Family& family) {
  return family.compressed_vocab_size > 0 ? family.compressed_vocab_size : family.vocab_size;
}

// Multipliers are odd numbers below twice this, so that no product with an id in range overflows.
uint64_t MultiplierBound(const Family& family) {
  return uint64_t{std::numeric_limits<int64_t>::max()} / HashedVocabSize(family) / 2;
}

// `index` is the layer's place among those that take part.
std::vector<int64_t> Multipliers(const Family& family, uint32_t layer, uint64_t index) {
  const uint64_t bound = MultiplierBound(family);
  std::vector<int64_t> multipliers(family.max_order);
  switch (family.multiplier_rule) {
    case MultiplierRule::kNone:
      return {};
    case MultiplierRule::kNumpyPcg64: {
      NumpyRandom random(family.multiplier_seed + kLayerSeedStep * layer);
      for (int64_t& m : multipliers) m = static_cast<int64_t>(2 * random.Below(bound) + 1);
      return multipliers;
    }
    case MultiplierRule::kSplitMix64: {
      uint64_t seed = family.multiplier_seed + kLayerSeedStep * index;
      for (int64_t& m : multipliers) {
        seed += kGoldenGamma;
        m = static_cast<int64_t>(2 * (SplitMix64Mix(seed) % bound) + 1);
      }
      return multipliers;
    }
  }
  return {};
}

// Moduli of one layer. `last_prime` is that of the layers before it. V4.1's rule for kPrimesAbove
// begins anew at base for each order and skips what is used, Qwen4's counts the primes through all
// columns of all layers: both take the primes from base on one after the other.
std::vector<uint64_t> Moduli(const Family& family, uint64_t base, uint64_t* last_prime) {
  std::vector<uint64_t> moduli;
  const uint32_t columns = (family.max_order - 1) * family.heads_per_order;
  for (uint32_t column = 0; column < columns; ++column) {
    switch (family.modulus_rule) {
      case ModulusRule::kPrimesAbove:
        moduli.push_back(*last_prime = NextPrimeAbove(*last_prime));
        break;
      case ModulusRule::kOddAbove:
        moduli.push_back(base + 2 * uint64_t{column} + 1);
        break;
    }
  }
  return moduli;
}

LayerAddressing DeriveLayer(const Family& family, uint32_t layer, uint64_t index, uint64_t base,
                            uint64_t* last_prime) {
  LayerAddressing addressing;
  addressing.layer = layer;
  addressing.multipliers = Multipliers(family, layer, index);
  addressing.moduli = Moduli(family, base, last_prime);
  uint64_t offset = 0;
  for (const uint64_t modulus : addressing.moduli) {
    addressing.offsets.push_back(offset);
    offset += modulus;
  }
  return addressing;
}

// What the derivation divides by and loops over; Validate() looks at the scheme it comes to.
absl::Status CheckCounts(const Family& family) {
  if (family.max_order < 2 || family.max_order > kMaxOrder || family.heads_per_order < 1 ||
      family.heads_per_order > kMaxHeadsPerOrder) {
    return absl::InvalidArgumentError(absl::StrCat(
        "family ", family.name, ": n-grams of up to ", family.max_order, " ids (2..", kMaxOrder,
        " can be) with ", family.heads_per_order, " heads each (1..", kMaxHeadsPerOrder, ")"));
  }
  if (HashedVocabSize(family) < 1 || HashedVocabSize(family) > kMaxVocabSize) {
    return absl::InvalidArgumentError(absl::StrCat("family ", family.name, ": a vocabulary of ",
                                                   HashedVocabSize(family), " ids (1..",
                                                   kMaxVocabSize, " can be)"));
  }
  return absl::OkStatus();
}

absl::Status CheckLayers(const Family& family, const std::vector<uint32_t>& layers) {
  const auto not_ascending =
      std::adjacent_find(layers.begin(), layers.end(), std::greater_equal<>());
  if (not_ascending != layers.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layers ", absl::StrJoin(layers, ","), " are not ascending, each named once"));
  }
  if (layers.size() > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat(layers.size(), " layers are more than the limit of ", kMaxLayers));
  }
  for (const uint32_t layer : layers) {
    if (family.combine == Combine::kPolynomial && !absl::c_linear_search(family.layers, layer)) {
      return absl::InvalidArgumentError(absl::StrCat("family ", family.name, " has no layer ",
                                                     layer, "; it has ",
                                                     absl::StrJoin(family.layers, ", ")));
    }
  }
  return absl::OkStatus();
}

// The layers that take part in the walk (families.h).
std::vector<uint32_t> LayersOfWalk(const Family& family, const std::vector<uint32_t>& asked) {
  const bool is_subset =
      std::includes(family.layers.begin(), family.layers.end(), asked.begin(), asked.end());
  if (!is_subset) return asked;
  return family.layers;
}

AddressScheme WithoutLayers(const Family& family) {
  AddressScheme scheme;
  scheme.family = std::string(family.name);
  scheme.combine = family.combine;
  scheme.max_order = family.max_order;
  scheme.heads_per_order = family.heads_per_order;
  scheme.vocab_size = family.vocab_size;
  if (family.compressed_vocab_size > 0) {
    scheme.token_map = TokenMapReference{.file = kTokenMapFile,
                                         .sha256 = std::string(family.token_map_sha256),
                                         .compressed_vocab_size = family.compressed_vocab_size};
  }
  scheme.pad_id = family.pad_id;
  if (family.reset_token_id >= 0) {
    scheme.reset_token_id = static_cast<uint32_t>(family.reset_token_id);
  }
  scheme.dead_positions = family.dead_positions;
  if (family.combine == Combine::kPolynomial) scheme.radix = family.vocab_size;
  return scheme;
}

}  // namespace

absl::StatusOr<AddressScheme> Derive(const Family& family, const DeriveOptions& options) {
  const uint64_t base = options.rows_per_head > 0 ? options.rows_per_head : family.rows_per_head;
  // What the primes come to is checked below; this keeps the search itself in bounds.
  if (base < 1 || base > kMaxLayerRows) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rows per head ", base, " is not from 1 to the limit of ", kMaxLayerRows, " rows a layer"));
  }
  if (absl::Status s = CheckCounts(family); !s.ok()) return s;
  if (family.multiplier_rule == MultiplierRule::kNumpyPcg64 &&
      MultiplierBound(family) < kMinNumpyBound) {
    return absl::InvalidArgumentError(absl::StrCat("family ", family.name, ": a vocabulary of ",
                                                   HashedVocabSize(family),
                                                   " is too large for numpy's 64-bit draws"));
  }
  if (absl::Status s = CheckLayers(family, family.layers); !s.ok()) return s;
  if (absl::Status s = CheckLayers(family, options.layers); !s.ok()) return s;
  AddressScheme scheme = WithoutLayers(family);
  uint64_t last_prime = base - 1;
  uint64_t index = 0;
  for (const uint32_t layer : LayersOfWalk(family, options.layers)) {
    LayerAddressing derived = DeriveLayer(family, layer, index++, base, &last_prime);
    const bool asked = options.layers.empty() || absl::c_linear_search(options.layers, layer);
    if (asked) scheme.layers.push_back(std::move(derived));
  }
  if (absl::Status s = Validate(scheme); !s.ok()) return s;
  return scheme;
}

}  // namespace engram
