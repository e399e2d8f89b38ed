#include "memstore/addressing/scheme.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "memstore/base/quote_for_message.h"

namespace engram {
namespace {

// Mixes and polynomial sums stay below this, so that no product of ids in range wraps.
constexpr unsigned __int128 kMixLimit = static_cast<unsigned __int128>(1) << 63;

absl::Status OutOfRange(absl::string_view field, const absl::AlphaNum& value,
                        const absl::AlphaNum& allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("address scheme: ", field, " is ", value, ", must be ", allowed));
}

absl::Status ValidateTokenMap(const TokenMapReference& map, uint32_t vocab_size) {
  if (map.file.empty()) return OutOfRange("token_map.file", "empty", "a file name");
  const bool is_hex = std::all_of(map.sha256.begin(), map.sha256.end(), [](char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
  if (map.sha256.size() != 64 || !is_hex) {
    return OutOfRange("token_map.sha256", QuoteForMessage(map.sha256),
                      "64 lower-case hexadecimal digits");
  }
  if (map.compressed_vocab_size < 1 || map.compressed_vocab_size > vocab_size) {
    return OutOfRange("token_map.compressed_vocab_size", map.compressed_vocab_size,
                      absl::StrCat("1..", vocab_size, " (vocab_size)"));
  }
  return absl::OkStatus();
}

uint32_t HashedVocabSize(const AddressScheme& scheme) {
  return scheme.token_map ? scheme.token_map->compressed_vocab_size : scheme.vocab_size;
}

absl::Status ValidateIds(const AddressScheme& scheme) {
  if (scheme.vocab_size < 1 || scheme.vocab_size > kMaxVocabSize) {
    return OutOfRange("vocab_size", scheme.vocab_size, absl::StrCat("1..", kMaxVocabSize));
  }
  if (scheme.token_map) {
    if (scheme.vocab_size > kMaxMappedVocabSize) {
      return OutOfRange("vocab_size", scheme.vocab_size,
                        absl::StrCat("1..", kMaxMappedVocabSize,
                                     " where there is a token map: each client is sent the map"));
    }
    if (absl::Status s = ValidateTokenMap(*scheme.token_map, scheme.vocab_size); !s.ok()) return s;
  }
  const uint32_t hashed = HashedVocabSize(scheme);
  if (scheme.pad_id < 0 || scheme.pad_id >= hashed) {
    return OutOfRange("pad_id", scheme.pad_id, absl::StrCat("0..", hashed - 1));
  }
  if (scheme.reset_token_id && *scheme.reset_token_id >= scheme.vocab_size) {
    return OutOfRange("reset_token_id", *scheme.reset_token_id,
                      absl::StrCat("0..", scheme.vocab_size - 1));
  }
  return absl::OkStatus();
}

absl::Status ValidateMultipliers(const AddressScheme& scheme, const LayerAddressing& layer,
                                 absl::string_view name) {
  const bool is_xor = scheme.combine == Combine::kXorOfProducts;
  const size_t wanted = is_xor ? scheme.max_order : 0;
  if (layer.multipliers.size() != wanted) {
    return OutOfRange(absl::StrCat(name, ".multipliers' count"), layer.multipliers.size(), wanted);
  }
  for (const int64_t multiplier : layer.multipliers) {
    if (multiplier < 1)
      return OutOfRange(absl::StrCat(name, ".multipliers"), multiplier, "positive");
    if (static_cast<unsigned __int128>(multiplier) * (HashedVocabSize(scheme) - 1) >= kMixLimit) {
      return OutOfRange(absl::StrCat(name, ".multipliers"), multiplier,
                        absl::StrCat("below 2^63 when multiplied by the largest id, ",
                                     HashedVocabSize(scheme) - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status ValidateColumns(const AddressScheme& scheme, const LayerAddressing& layer,
                             absl::string_view name) {
  const uint32_t columns = scheme.Columns();
  if (layer.moduli.size() != columns) {
    return OutOfRange(absl::StrCat(name, ".moduli's count"), layer.moduli.size(), columns);
  }
  if (layer.offsets.size() != columns) {
    return OutOfRange(absl::StrCat(name, ".offsets' count"), layer.offsets.size(), columns);
  }
  uint64_t rows = 0;
  for (uint32_t c = 0; c < columns; ++c) {
    if (layer.offsets[c] != rows) {
      return OutOfRange(absl::StrCat(name, ".offsets[", c, "]"), layer.offsets[c],
                        absl::StrCat(rows, ", the sum of the moduli before it"));
    }
    const uint64_t modulus = layer.moduli[c];
    if (modulus < 1 || modulus > kMaxLayerRows - rows) {
      return OutOfRange(
          absl::StrCat(name, ".moduli[", c, "]"), modulus,
          absl::StrCat("at least 1, and all of them together at most ", kMaxLayerRows));
    }
    if (scheme.combine == Combine::kPolynomial &&
        static_cast<unsigned __int128>(modulus) * scheme.max_order * scheme.vocab_size >=
            kMixLimit) {
      return OutOfRange(absl::StrCat(name, ".moduli[", c, "]"), modulus,
                        "below 2^63 when multiplied by max_order and vocab_size");
    }
    rows += modulus;
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t LayerAddressing::Rows() const {
  return moduli.empty() || offsets.empty() ? 0 : offsets.back() + moduli.back();
}

const LayerAddressing* AddressScheme::FindLayer(uint32_t layer) const {
  const auto at = std::find_if(layers.begin(), layers.end(),
                               [layer](const LayerAddressing& l) { return l.layer == layer; });
  return at == layers.end() ? nullptr : &*at;
}

absl::Status Validate(const AddressScheme& scheme) {
  if (scheme.max_order < 2 || scheme.max_order > kMaxOrder) {
    return OutOfRange("max_order", scheme.max_order, absl::StrCat("2..", kMaxOrder));
  }
  if (scheme.heads_per_order < 1 || scheme.heads_per_order > kMaxHeadsPerOrder) {
    return OutOfRange("heads_per_order", scheme.heads_per_order,
                      absl::StrCat("1..", kMaxHeadsPerOrder));
  }
  if (absl::Status s = ValidateIds(scheme); !s.ok()) return s;
  if ((scheme.combine == Combine::kPolynomial) != (scheme.radix > 0)) {
    return OutOfRange("radix", scheme.radix, "positive for a polynomial scheme, 0 for any other");
  }
  if (scheme.layers.empty() || scheme.layers.size() > kMaxLayers) {
    return OutOfRange("the number of layers", scheme.layers.size(),
                      absl::StrCat("1..", kMaxLayers));
  }
  int64_t previous = -1;
  for (const LayerAddressing& layer : scheme.layers) {
    const std::string name = absl::StrCat("layer ", layer.layer);
    if (layer.layer <= previous) return OutOfRange("a layer's number", layer.layer, "ascending");
    previous = layer.layer;
    if (absl::Status s = ValidateMultipliers(scheme, layer, name); !s.ok()) return s;
    if (absl::Status s = ValidateColumns(scheme, layer, name); !s.ok()) return s;
  }
  return absl::OkStatus();
}

}  // namespace engram
