// How token ids become row ids, as data.
//
// A scheme is read from a table set's manifest when rows are served, and derived from a family
// (families.h) only when a table is packed. Plain values, copyable; no thread safety needed beyond
// that of const access. The formulas are those of proto/FORMATS.md, "Addressing".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace engram {

// Limits of a scheme, so that what reads one can size its buffers beforehand.
// Largest order: bounds a sequence's state and the kernels' windows; the models known use 4.
inline constexpr uint32_t kMaxOrder = 8;
// Columns of one order; the models known use 8.
inline constexpr uint32_t kMaxHeadsPerOrder = 64;
// Layers of a model; the deepest known models have below 200.
inline constexpr uint32_t kMaxLayers = 1024;
// Ids come as int32.
inline constexpr uint32_t kMaxVocabSize = uint32_t{1} << 31;
// Ids of a token map: far above any tokenizer's. The map is read whole, and every client that
// attaches is sent it, 40 MiB then: a larger one could be packed and never be served.
inline constexpr uint32_t kMaxMappedVocabSize = 10 << 20;
// Rows of a layer: 2^40 rows of 8 bytes are more than any machine's memory, and the synthetic rule
// has 40 bits for a row's number.
inline constexpr uint64_t kMaxLayerRows = uint64_t{1} << 40;

// A row's number in its layer's table, column offset included. 64 bits everywhere in memory;
// narrowed to 32 on the wire where the layer's rows allow it.
using RowId = uint64_t;

enum class Combine {
  kXorOfProducts,  // mix = XOR_{k<n} id[k] * multiplier[k]; row = mix mod modulus + offset
  kPolynomial,     // row = (id[0] + sum_{d=1}^{n-1} id[d] * (radix^d mod modulus)) mod modulus +
                   // offset
};

struct LayerAddressing {
  uint32_t layer = 0;                // the model's layer number, 0-based
  std::vector<int64_t> multipliers;  // [max_order], kXorOfProducts alone
  std::vector<uint64_t> moduli;      // [columns]
  std::vector<uint64_t> offsets;     // [columns], exclusive prefix sums of the moduli

  uint64_t Rows() const;  // offset of the last column + its modulus
};

// What packed table sets call it.
inline constexpr char kTokenMapFile[] = "token_map.i32";

// The token map's place in a table set; the map itself is a TokenMap (token_map.h).
struct TokenMapReference {
  std::string file;    // name in the table set's directory
  std::string sha256;  // lower-case hexadecimal, of the file's bytes
  uint32_t compressed_vocab_size = 0;
};

struct AddressScheme {
  std::string family;  // for people
  Combine combine = Combine::kXorOfProducts;
  uint32_t max_order = 0;                      // N: orders 2..N
  uint32_t heads_per_order = 0;                // K: column (n-2)*K + head
  uint32_t vocab_size = 0;                     // raw ids are 0..vocab_size-1
  std::optional<TokenMapReference> token_map;  // set: ids are compressed before hashing
  int64_t pad_id = 0;                      // stands in for a blocked position, after compression
  std::optional<uint32_t> reset_token_id;  // ends the window of all later tokens; raw id
  bool dead_positions = false;             // whether positions may be marked dead
  uint64_t radix = 0;                      // kPolynomial alone
  std::vector<LayerAddressing> layers;     // ascending by layer

  uint32_t Columns() const { return (max_order - 1) * heads_per_order; }
  uint32_t Lookback() const { return max_order - 1; }
  const LayerAddressing* FindLayer(uint32_t layer) const;  // nullptr when there is none
};

// OK when the scheme can be used as it stands: sizes agree, moduli and offsets fit, limits hold.
// INVALID_ARGUMENT names the field and its value.
absl::Status Validate(const AddressScheme& scheme);

}  // namespace engram
