// The model families whose tables can be packed, each a recipe with its parameters as data, and the
// derivation of an address scheme from one. A sister model is a copy of its family with other
// parameters. Used when a table is packed (and by `engram address --family`), never when served.
//
// Sources of the formulas: arXiv 2601.07372 and its demo, the models' public configurations;
// written out in proto/FORMATS.md, "Families".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/scheme.h"

namespace engram {

enum class MultiplierRule {
  kNone,        // kPolynomial schemes
  kNumpyPcg64,  // 2 * default_rng(seed + 10007 * layer).integers(0, B, N) + 1
  kSplitMix64,  // 2 * (splitmix64(seed + 10007 * index + G * (k + 1)) mod B) + 1
};

enum class ModulusRule {
  kPrimesAbove,  // the primes from base on, one after the other over all columns of all layers
  kOddAbove,     // LongCat: base + 2 * column + 1
};

// How a model's config.json spells the parameters (recipe/checkpoint_config.h).
enum class ConfigKeys {
  kEngram,         // engram_layer_ids, engram_max_ngram_size, ...
  kPle,            // ngram_size, heads_per_ngram, ple_layer_ids (counts from 1), ...
  kOverEmbedding,  // emb_neighbor_num, emb_split_num, ngram_vocab_size_ratio, ...
};

struct Family {
  absl::string_view name;
  ConfigKeys config_keys;
  Combine combine;
  MultiplierRule multiplier_rule;
  uint64_t multiplier_seed;
  ModulusRule modulus_rule;
  uint32_t max_order;
  uint32_t heads_per_order;
  uint32_t vocab_size;
  uint32_t compressed_vocab_size;  // 0: raw ids are hashed
  std::string token_map_sha256;
  absl::string_view token_map_source;  // how to get the map, for messages
  int64_t pad_id;          // a token id; of every family here its compressed id is the same number
  int64_t reset_token_id;  // -1: none
  bool pad_is_reset_token;
  bool dead_positions;
  // That its released models have in the places of an image (Addresser::Create), for whoever has no
  // table set that says it.
  std::vector<int32_t> image_token_ids = {};
  uint64_t rows_per_head;  // the base size
  std::vector<uint32_t> layers;
  uint32_t row_dim;  // values in a row, as released
  // As released: where the checkpoint holds the rows. "{layer}" and "{piece}" are replaced; a
  // pattern with "{piece}" is a run of tensors from 0 on, concatenated (or, with column_tensors,
  // one a column).
  absl::string_view weight_tensor;
  absl::string_view scale_tensor;  // empty: none
  bool scale_per_row;              // else one scalar for the whole table
  bool column_tensors;
};

absl::Span<const Family> Families();
std::string FamilyNames();  // "a, b, c", for messages and help
// NOT_FOUND lists the names there are.
absl::StatusOr<const Family*> FindFamily(absl::string_view name);

struct DeriveOptions {
  uint64_t rows_per_head = 0;         // 0: the family's own
  std::vector<uint32_t> layers = {};  // empty: the family's own; else ascending
};

// The scheme of `family` for some layers. Which layers take part decides the moduli (one used-set
// of primes over all) and the indices of kSplitMix64:
// * all of `options.layers` belong to the family: the family's layers take part, whichever of them
//   are asked for, so that a subset gets exactly what it has in the full family;
// * otherwise (a synthetic set; XOR families alone): those asked for, and no others.
// INVALID_ARGUMENT for sizes or layers that can't be. Cost: a prime search, milliseconds.
absl::StatusOr<AddressScheme> Derive(const Family& family, const DeriveOptions& options);

}  // namespace engram
