#include "memstore/addressing/testing/plain_addresser.h"

#include <algorithm>

namespace engram {
namespace {

class PlainSequence {
 public:
  PlainSequence(const AddressScheme& scheme, const TokenMap* token_map,
                absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead)
      : scheme_(scheme), token_map_(token_map), token_ids_(token_ids), dead_(dead) {}

  // What `position` hashes at distances 0..max_order-1.
  void Window(size_t position, uint64_t* window) const {
    std::fill_n(window, scheme_.max_order, static_cast<uint64_t>(scheme_.pad_id));
    if (IsDead(position)) return;
    window[0] = Id(position);
    for (uint32_t k = 1; k < scheme_.max_order && k <= position; ++k) {
      if (IsDead(position - k) || IsReset(position - k)) return;
      window[k] = Id(position - k);
    }
  }

 private:
  bool IsDead(size_t position) const { return !dead_.empty() && dead_[position] != 0; }
  bool IsReset(size_t position) const {
    return scheme_.reset_token_id && token_ids_[position] == int64_t{*scheme_.reset_token_id};
  }
  uint64_t Id(size_t position) const {
    const int32_t id = token_ids_[position];
    return static_cast<uint64_t>(token_map_ == nullptr ? id : token_map_->compressed()[id]);
  }

  const AddressScheme& scheme_;
  const TokenMap* token_map_;
  absl::Span<const int32_t> token_ids_;
  absl::Span<const uint8_t> dead_;
};

RowId* PlainXor(const AddressScheme& scheme, const LayerAddressing& layer, const uint64_t* window,
                RowId* rows) {
  uint64_t mix = window[0] * static_cast<uint64_t>(layer.multipliers[0]);
  for (uint32_t k = 1, column = 0; k < scheme.max_order; ++k) {
    mix ^= window[k] * static_cast<uint64_t>(layer.multipliers[k]);
    for (uint32_t head = 0; head < scheme.heads_per_order; ++head, ++column) {
      *rows++ = mix % layer.moduli[column] + layer.offsets[column];
    }
  }
  return rows;
}

RowId* PlainPolynomial(const AddressScheme& scheme, const LayerAddressing& layer,
                       const uint64_t* window, RowId* rows) {
  for (uint32_t column = 0; column < scheme.Columns(); ++column) {
    const uint32_t order = column / scheme.heads_per_order + 2;
    const uint64_t modulus = layer.moduli[column];
    uint64_t sum = window[0], power = 1;
    for (uint32_t d = 1; d < order; ++d) {
      power = power * (scheme.radix % modulus) % modulus;
      sum += window[d] * power;
    }
    *rows++ = sum % modulus + layer.offsets[column];
  }
  return rows;
}

}  // namespace

void PlainAddress(const AddressScheme& scheme, const TokenMap* token_map,
                  absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead,
                  std::vector<RowId>* rows) {
  rows->resize(token_ids.size() * scheme.layers.size() * scheme.Columns());
  const PlainSequence sequence(scheme, token_map, token_ids, dead);
  RowId* out = rows->data();
  uint64_t window[kMaxOrder];
  for (size_t position = 0; position < token_ids.size(); ++position) {
    sequence.Window(position, window);
    for (const LayerAddressing& layer : scheme.layers) {
      out = scheme.combine == Combine::kXorOfProducts ? PlainXor(scheme, layer, window, out)
                                                      : PlainPolynomial(scheme, layer, window, out);
    }
  }
}

}  // namespace engram
