// The address kernel, piece by piece, for host and device alike: a token's window out of a ragged
// batch, its mixes, its row ids. The hash itself is ngram_hash.h's, which the CPU's Addresser uses.
//
// A block of the kernel takes a tile of tokens: each thread makes one token's window and, a layer
// at a time, its mixes, once for all heads; then each thread keeps one column's constants in
// registers and goes over the tile's tokens, so that neighbouring threads write neighbouring row
// ids and a multiplication or two is all that stands between two stores.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memstore/addressing/ngram_hash.h"

#ifdef __CUDACC__
#define ENGRAM_LOOP_FUNCTION __host__ __device__ __forceinline__
#else
#define ENGRAM_LOOP_FUNCTION inline
#endif

namespace engram {

// kMaxOrder of scheme.h, which CUDA code must not include.
inline constexpr uint32_t kMaxWindow = 8;
// Tokens of a tile: as many as make the threads' last, partly idle round of stores small.
inline constexpr uint32_t kAddressTile = 128;
// The row id of a token that has none: out of every table's range, so that nobody fetches it.
inline constexpr uint64_t kNoRow = UINT64_MAX;

struct ColumnHash {
  Reciprocal reciprocal;
  uint64_t offset = 0;
  uint32_t order = 0;
};

// A scheme, or what slices leave of it, as the kernel reads it; the arrays are device memory. The
// layers' columns are numbered through: layer l has first_columns[l]..first_columns[l + 1]-1.
struct AddressTables {
  const int32_t* compressed = nullptr;      // [vocab_size]; null: raw ids are hashed
  const uint64_t* multipliers = nullptr;    // [layers][order], XOR schemes
  const uint64_t* coefficients = nullptr;   // [all columns][order], polynomial ones, else null
  const ColumnHash* hashes = nullptr;       // [all columns]
  const uint32_t* first_columns = nullptr;  // [layers + 1]
  const int32_t* image_ids = nullptr;       // [images], ascending: refused where they are live
  uint32_t images = 0;
  uint32_t first_image = 0;  // image_ids[0], and from it to the last one
  uint32_t image_span = 0;
  uint32_t vocab_size = 0;
  uint32_t hashed_vocab_size = 0;
  uint32_t pad = 0;
  uint32_t reset = kBlockedEntry;  // raw; kBlockedEntry: none
  uint32_t order = 0;              // the largest
  uint32_t columns = 0;            // of the layer that has most
  uint32_t layers = 0;
};

// The columns of a layer, and where its row ids begin: [layers][tokens][its columns].
struct LayerColumns {
  uint32_t first_column = 0;
  uint32_t columns = 0;
};

ENGRAM_LOOP_FUNCTION LayerColumns ColumnsOf(const AddressTables& tables, uint32_t layer) {
  const uint32_t first = tables.first_columns[layer];
  return {first, tables.first_columns[layer + 1] - first};
}

// The row ids of a layer's token `token`, of a batch of `tokens`.
ENGRAM_LOOP_FUNCTION uint64_t* RowIdsOf(const LayerColumns& layer, uint32_t tokens, uint32_t token,
                                        uint64_t* rows) {
  return rows + static_cast<uint64_t>(layer.first_column) * tokens +
         static_cast<uint64_t>(token) * layer.columns;
}

// A ragged batch; all of it is device memory. Sequence s has the tokens starts[s] to starts[s + 1]:
// a prefill chunk, a decode step, a decode step and its drafts, or none.
struct AddressTokens {
  const int32_t* token_ids = nullptr;  // [tokens]
  const uint8_t* dead = nullptr;       // [tokens], or null: none is
  const uint32_t* starts = nullptr;    // [sequences + 1], ascending from 0 to `tokens`
  // [sequences][order - 1]: what was before a sequence's first token, newest first: hashed
  // (compressed) ids, kBlockedEntry from the first one on that is not to be seen.
  const uint32_t* lookback = nullptr;
  uint32_t sequences = 0;
  uint32_t tokens = 0;
};

// What is wrong with a batch, in one word: 0, or the first bad position's complement above the
// kind, so that the largest word is the first one.
enum class AddressError : uint32_t {
  kNone = 0,
  kTokenId = 1,
  kLookback = 2,
  kStarts = 3,
  kUnmaskedImage = 4
};

ENGRAM_LOOP_FUNCTION uint64_t AddressErrorWord(uint32_t position, AddressError kind) {
  return (static_cast<uint64_t>(~position) << 8) | static_cast<uint32_t>(kind);
}

// The sequence that has `token`: the last one that starts at it or before. Whatever `starts` holds,
// it is one of the sequences.
ENGRAM_LOOP_FUNCTION uint32_t FindSequence(const AddressTokens& batch, uint32_t token) {
  uint32_t low = 0, high = batch.sequences;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (batch.starts[middle] <= token) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

// Whether starts[s], starts[s + 1] can be a sequence's.
ENGRAM_LOOP_FUNCTION bool StartsAreGood(const AddressTokens& batch, uint32_t s) {
  const uint32_t begin = batch.starts[s], end = batch.starts[s + 1];
  return begin <= end && end <= batch.tokens && (s > 0 || begin == 0) &&
         (s + 1 < batch.sequences || end == batch.tokens);
}

// Images' ids lie together, at the end of a vocabulary as a rule: text is told by the two ends.
ENGRAM_LOOP_FUNCTION bool IsImage(const AddressTables& tables, uint32_t id) {
  if (tables.images == 0 || id - tables.first_image > tables.image_span) return false;
  uint32_t low = 0, high = tables.images;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (static_cast<uint32_t>(tables.image_ids[middle]) <= id) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return static_cast<uint32_t>(tables.image_ids[low]) == id;
}

// What a token hashes as, `*own`, and what later ones see of it; or what is wrong with its id.
ENGRAM_LOOP_FUNCTION AddressError EntryOfToken(const AddressTables& tables,
                                               const AddressTokens& batch, uint32_t token,
                                               uint32_t* own, uint32_t* past) {
  *own = *past = kBlockedEntry;
  if (batch.dead != nullptr && batch.dead[token] != 0) return AddressError::kNone;
  const auto id = static_cast<uint32_t>(batch.token_ids[token]);
  if (id >= tables.vocab_size) return AddressError::kTokenId;
  if (IsImage(tables, id)) return AddressError::kUnmaskedImage;
  *own = tables.compressed == nullptr ? id : static_cast<uint32_t>(tables.compressed[id]);
  *past = id == tables.reset ? kBlockedEntry : *own;
  return AddressError::kNone;
}

// The ids that `token` hashes at distances 0..order-1, and 0; or, with window[0] = kBlockedEntry,
// what is wrong with one of them.
ENGRAM_LOOP_FUNCTION uint64_t WindowOfToken(const AddressTables& tables, const AddressTokens& batch,
                                            uint32_t token, uint32_t* window) {
  const uint32_t sequence = FindSequence(batch, token);
  const uint32_t start = batch.starts[sequence];
  const uint32_t older = start <= token ? token - start : 0;  // tokens before it in its sequence
  uint64_t error = 0;
  uint32_t blocked = 0;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (uint32_t k = 0; k < kMaxWindow; ++k) {
    if (k >= tables.order) break;
    uint32_t entry = kBlockedEntry;
    if (blocked == 0 && k <= older) {
      uint32_t own, past;
      const AddressError wrong = EntryOfToken(tables, batch, token - k, &own, &past);
      if (wrong != AddressError::kNone) error = AddressErrorWord(token - k, wrong);
      entry = k == 0 ? own : past;
    } else if (blocked == 0) {
      entry = batch.lookback[static_cast<uint64_t>(sequence) * (tables.order - 1) + k - older - 1];
      if (entry != kBlockedEntry && entry >= tables.hashed_vocab_size) {
        error = AddressErrorWord(start, AddressError::kLookback);
      }
    }
    window[k] = WindowStep(entry, tables.pad, &blocked);
  }
  if (error != 0) window[0] = kBlockedEntry;
  return error;
}

// What the threads of a block share: mixes of an XOR scheme, windows of a polynomial one.
union AddressTile {
  uint64_t mixes[kMaxWindow - 1][kAddressTile];  // [order - 2][token]; kNoRow: bad
  uint32_t windows[kMaxWindow][kAddressTile];    // [distance][token]
};

// Puts token `t` of a tile, whose window this is, where HashColumn looks for it.
ENGRAM_LOOP_FUNCTION void MixToken(const AddressTables& tables, uint32_t layer,
                                   const uint32_t* window, uint32_t t, AddressTile* tile) {
  const bool is_xor = tables.coefficients == nullptr;
  const uint64_t* const multipliers = tables.multipliers + layer * tables.order;
  const bool bad = window[0] == kBlockedEntry;
  uint64_t mix = 0;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
  for (uint32_t k = 0; k < kMaxWindow; ++k) {
    if (k >= tables.order) break;
    if (!is_xor) {
      tile->windows[k][t] = window[k];
      continue;
    }
    mix = XorStep(mix, window[k], multipliers[k]);
    if (k > 0) tile->mixes[k - 1][t] = bad ? kNoRow : mix;
  }
}

// Row ids of one of the layer's columns, of every `step`th of the tile's tokens from `first` on:
// token t's at rows[t * columns + column], `rows` being the tile's first token's in this layer.
ENGRAM_LOOP_FUNCTION void HashColumn(const AddressTables& tables, const LayerColumns& layer,
                                     uint32_t column, const AddressTile& tile, uint32_t first,
                                     uint32_t step, uint32_t tokens, uint64_t* rows) {
  const ColumnHash hash = tables.hashes[layer.first_column + column];
  if (tables.coefficients == nullptr) {
    const uint64_t* const mixes = tile.mixes[hash.order - 2];
    for (uint32_t t = first; t < tokens; t += step) {
      const uint64_t row = Modulo(mixes[t], hash.reciprocal) + hash.offset;
      rows[static_cast<uint64_t>(t) * layer.columns + column] = mixes[t] == kNoRow ? kNoRow : row;
    }
    return;
  }
  const uint64_t* const coefficients =
      tables.coefficients + static_cast<uint64_t>(layer.first_column + column) * tables.order;
  for (uint32_t t = first; t < tokens; t += step) {
    uint64_t sum = 0;
    for (uint32_t d = 0; d < hash.order; ++d) {
      sum = PolynomialStep(sum, tile.windows[d][t], coefficients[d]);
    }
    const uint64_t row = Modulo(sum, hash.reciprocal) + hash.offset;
    const bool bad = tile.windows[0][t] == kBlockedEntry;
    rows[static_cast<uint64_t>(t) * layer.columns + column] = bad ? kNoRow : row;
  }
}

// The lookback of sequence `s` once its first `accepted` tokens are committed, newest first; `to`
// may be the sequence's own in the batch. Returns what is wrong, with `to` as it was.
ENGRAM_LOOP_FUNCTION uint64_t AdvanceSequence(const AddressTables& tables,
                                              const AddressTokens& batch, uint32_t s,
                                              uint32_t accepted, uint32_t* to) {
  const uint32_t start = batch.starts[s];
  if (!StartsAreGood(batch, s) || accepted > batch.starts[s + 1] - start) {
    return AddressErrorWord(0, AddressError::kStarts);
  }
  const uint32_t lookback = tables.order - 1;
  uint32_t entries[kMaxWindow - 1];
  bool blocked = false;
  for (uint32_t age = 0; age < lookback; ++age) {
    uint32_t own, past;
    if (age >= accepted) {
      past = batch.lookback[static_cast<uint64_t>(s) * lookback + age - accepted];
      if (past != kBlockedEntry && past >= tables.hashed_vocab_size) {
        return AddressErrorWord(start, AddressError::kLookback);
      }
    } else {
      const uint32_t token = start + accepted - 1 - age;
      const AddressError wrong = EntryOfToken(tables, batch, token, &own, &past);
      if (wrong != AddressError::kNone) return AddressErrorWord(token, wrong);
    }
    blocked = blocked || past == kBlockedEntry;
    entries[age] = blocked ? kBlockedEntry : past;
  }
  for (uint32_t age = 0; age < lookback; ++age) to[age] = entries[age];
  return 0;
}

}  // namespace engram

#undef ENGRAM_LOOP_FUNCTION
