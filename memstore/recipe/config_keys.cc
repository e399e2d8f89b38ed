#include "memstore/recipe/config_keys.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

using P = RecipeParameter;
using F = KeyForm;
using R = KeyReach;

// The demo's configuration has the plain names below in the object that has engram_vocab_size.
constexpr ConfigKey kEngramKeys[] = {
    {"engram_layer_ids", P::kLayers, F::kNumbers},
    {"engram_num_embeddings", P::kLayerRows, F::kNumbers},
    {"engram_max_ngram_size", P::kMaxOrder},
    {"engram_vocab_size", P::kBaseRows, F::kEqualNumbers},
    {"engram_n_heads", P::kHeadsPerOrder},
    {"engram_num_heads", P::kHeadsPerOrder},
    {"engram_n_head_per_ngram", P::kHeadsPerOrder},
    {"engram_head_dim", P::kRowValues},
    {"engram_n_embed_per_ngram", P::kOrderValues},
    {"engram_pad_token_id", P::kPadToken},
    {"engram_pad_id", P::kPadToken},
    {"engram_compressed_vocab_size", P::kCompressedVocabSize},
    {"engram_seed", P::kSeed},
    {"engram_disable_compression", std::nullopt, F::kOff},
    {"engram_kernel_size", std::nullopt, F::kApart},
    {"engram_image_token_id", std::nullopt, F::kApart},
    {"disable_compression", std::nullopt, F::kOff, R::kBeside},
    {"layer_ids", P::kLayers, F::kNumbers, R::kBeside},
    {"max_ngram_size", P::kMaxOrder, F::kNumber, R::kBeside},
    {"n_head_per_ngram", P::kHeadsPerOrder, F::kNumber, R::kBeside},
    {"n_embed_per_ngram", P::kOrderValues, F::kNumber, R::kBeside},
    {"pad_id", P::kPadToken, F::kNumber, R::kBeside},
    {"seed", P::kSeed, F::kNumber, R::kGeneric},
    {"vocab_size", P::kTextVocabSize, F::kNumber, R::kGeneric},
};

constexpr ConfigKey kPleKeys[] = {
    {"ngram_size", P::kMaxOrder},
    {"heads_per_ngram", P::kHeadsPerOrder},
    {"ngram_vocab_size_base", P::kBaseRows},
    {"ple_layer_ids", P::kLayers, F::kNumbersFrom1},
    {"ple_embed_dim", P::kPositionValues},
    {"make_ngram_vocab_size_divisible_by", P::kRowsMultiple},
    {"split_ngram_parts", P::kPieces},
    {"ple_conv_kernel_size", std::nullopt, F::kApart},
    {"ple_embedding_dtype", std::nullopt, F::kApart},
    {"ple_image_token_id", std::nullopt, F::kApart},
    {"seed", P::kSeed, F::kNumber, R::kGeneric},
    {"vocab_size", P::kVocabSize, F::kNumber, R::kGeneric},
    {"eos_token_id", P::kResetToken, F::kEndToken, R::kGeneric},
};

// The switches of sister models change what is hashed, by rules that the recipe does not have.
constexpr ConfigKey kOverEmbeddingKeys[] = {
    {"emb_neighbor_num", P::kMaxOrder},
    {"oe_neighbor_num", P::kMaxOrder},
    {"emb_split_num", P::kHeadsPerOrder},
    {"oe_split_num", P::kHeadsPerOrder},
    {"vocab_size", P::kVocabSize, F::kNumber, R::kGeneric},
    {"text_vocab_size", P::kVocabSize, F::kNumber, R::kGeneric},
    {"eos_token_id", P::kResetToken, F::kEndToken, R::kGeneric},
    {"ngram_vocab_size_ratio", P::kBaseRows, F::kVocabRatio},
    {"oe_vocab_size_ratio", P::kBaseRows, F::kVocabRatio},
    {"hidden_size", P::kPositionValues, F::kNumber, R::kBeside},
    {"ngram_fix_normalize_factor", std::nullopt, F::kApart},
    {"oe_ignored_token_ids", std::nullopt, F::kOff},
    {"ignored_token_ids", std::nullopt, F::kOff, R::kGeneric},
    {"ngram_exclude_sp_token", std::nullopt, F::kOff},
    {"ngram_mod_force_prime", std::nullopt, F::kOff},
    {"ngram_compressed_tokenizer", std::nullopt, F::kOff},
    {"ngram_insert_all_layers", std::nullopt, F::kOff},
    {"insert_ngram_layer_idx", std::nullopt, F::kOff, R::kGeneric},
};

absl::Span<const absl::string_view> OwnPrefixes(ConfigKeys keys) {
  static constexpr absl::string_view kEngram[] = {"engram_"};
  static constexpr absl::string_view kPle[] = {"ngram_", "ple_"};
  static constexpr absl::string_view kOverEmbedding[] = {"oe_", "ngram_"};
  switch (keys) {
    case ConfigKeys::kEngram:
      return kEngram;
    case ConfigKeys::kPle:
      return kPle;
    case ConfigKeys::kOverEmbedding:
      return kOverEmbedding;
  }
  return {};
}

bool HasOwnPrefix(ConfigKeys keys, absl::string_view name) {
  const auto prefixes = OwnPrefixes(keys);
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](absl::string_view prefix) { return absl::StartsWith(name, prefix); });
}

}  // namespace

absl::Span<const ConfigKey> ConfigKeysOf(ConfigKeys keys) {
  switch (keys) {
    case ConfigKeys::kEngram:
      return kEngramKeys;
    case ConfigKeys::kPle:
      return kPleKeys;
    case ConfigKeys::kOverEmbedding:
      return kOverEmbeddingKeys;
  }
  return {};
}

bool IsOwnKey(ConfigKeys keys, absl::string_view key) {
  const absl::Span<const ConfigKey> known = ConfigKeysOf(keys);
  return HasOwnPrefix(keys, key) ||
         std::any_of(known.begin(), known.end(), [&](const ConfigKey& own) {
           return own.reach == KeyReach::kOwn && own.key == key;
         });
}

bool IsReadKey(ConfigKeys keys, absl::string_view key) {
  const absl::Span<const ConfigKey> known = ConfigKeysOf(keys);
  return std::any_of(known.begin(), known.end(), [&](const ConfigKey& own) {
    return own.reach == KeyReach::kOwn && own.form != KeyForm::kApart && own.key == key;
  });
}

bool IsOwnObject(ConfigKeys keys, absl::string_view name) {
  return HasOwnPrefix(keys, absl::StrCat(name, "_"));
}

}  // namespace engram
