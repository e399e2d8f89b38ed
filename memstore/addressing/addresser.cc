#include "memstore/addressing/addresser.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "memstore/addressing/hash_kernels.h"
#include "memstore/addressing/ngram_hash.h"
#include "memstore/base/status_macros.h"

namespace engram {

// The ids of a tile and of the window before it, oldest first.
struct Addresser::EntryTile {
  uint32_t tokens = 0;
  uint32_t own[kTileTokens];  // kBlockedEntry: dead
  uint32_t
      history[kMaxOrder - 1 + kTileTokens];  // as later positions see it; the window comes first
};

namespace {

absl::Status CheckTokenMap(const AddressScheme& scheme, const TokenMap* token_map) {
  if (!scheme.token_map) {
    if (token_map == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("the scheme of ", scheme.family,
                     " hashes raw token ids: a token map does not belong to it"));
  }
  if (token_map == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the scheme of ", scheme.family, " hashes compressed token ids: it needs its ",
        "token map, ", scheme.token_map->file, " (SHA-256 ", scheme.token_map->sha256, ")"));
  }
  const std::vector<int32_t>& compressed = token_map->compressed();
  const uint32_t compressed_vocab_size = scheme.token_map->compressed_vocab_size;
  const bool in_range = std::all_of(compressed.begin(), compressed.end(), [&](int32_t id) {
    return static_cast<uint32_t>(id) < compressed_vocab_size;
  });
  if (compressed.size() != scheme.vocab_size || !in_range) {
    return absl::InvalidArgumentError(
        absl::StrCat("the token map given is not that of the scheme of ", scheme.family,
                     ": it must have ", scheme.vocab_size, " entries (it has ", compressed.size(),
                     ") below ", compressed_vocab_size));
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const AddressScheme& scheme, size_t tokens,
                         const LayerRowIdsOutput& output) {
  if (output.layer_index >= scheme.layers.size()) {
    return absl::InvalidArgumentError(absl::StrCat("output for layer index ", output.layer_index,
                                                   ": the scheme has ", scheme.layers.size(),
                                                   " layers"));
  }
  uint32_t columns = scheme.Columns();
  if (output.slice != nullptr) {
    const uint32_t layer = scheme.layers[output.layer_index].layer;
    ENGRAM_RETURN_IF_ERROR(output.slice->Check(layer, columns));
    columns = output.slice->columns();
  }
  if (output.rows == nullptr && tokens > 0 && columns > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("output for layer index ", output.layer_index, " has no memory to write to"));
  }
  if (output.token_stride < columns) {
    return absl::InvalidArgumentError(
        absl::StrCat("output for layer index ", output.layer_index, " is too small: its stride is ",
                     output.token_stride, " row ids a token, the ",
                     output.slice != nullptr ? "slice" : "scheme", " has ", columns, " columns"));
  }
  return absl::OkStatus();
}

// The common case of CheckOutput's: all columns, and nothing is wrong. A call of a few tokens takes
// some 200 ns, of which the longer check would be a part that shows.
bool IsSoundAndWhole(const AddressScheme& scheme, uint32_t columns,
                     const LayerRowIdsOutput& output) {
  return output.slice == nullptr && output.rows != nullptr &&
         output.layer_index < scheme.layers.size() && output.token_stride >= columns;
}

absl::Status CheckMask(const AddressScheme& scheme, size_t tokens, absl::Span<const uint8_t> dead) {
  if (dead.empty()) return absl::OkStatus();
  if (!scheme.dead_positions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the scheme of ", scheme.family, " has no dead positions: leave the dead mask out"));
  }
  if (dead.size() != tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the dead mask has ", dead.size(), " bytes for ",
                                                   tokens, " token ids; it needs one for each"));
  }
  return absl::OkStatus();
}

absl::Status ForeignState(const AddressScheme& scheme) {
  return absl::InvalidArgumentError(
      absl::StrCat("the sequence state holds an id that the scheme of ", scheme.family,
                   " does not have: begin with Addresser::Start() and this scheme's Advance()"));
}

// What an id that is no token's comes from, as a rule, and what to do.
std::string UsualCause(const AddressScheme& scheme, int32_t token_id) {
  if (token_id == -1) {
    return absl::StrCat(
        "; -1 stands for padding or an image in many programs: leave padding out",
        scheme.dead_positions ? ", and mark the positions of an image in the dead mask" : "");
  }
  const uint32_t swapped = __builtin_bswap32(static_cast<uint32_t>(token_id));
  return absl::StrCat(
      "; were the ids made with another tokenizer? Other usual causes: an image's hash in the "
      "place "
      "of its token",
      scheme.dead_positions ? " (mark its positions in the dead mask)" : "",
      ", and numbers of another type (int16, int64, float",
      swapped < scheme.vocab_size ? absl::StrCat(", big-endian: ", swapped) : "",
      ") that are read as int32");
}

absl::Status UnmaskedImage(const AddressScheme& scheme, int32_t token_id, absl::string_view where) {
  return absl::InvalidArgumentError(absl::StrCat(
      "token id ", token_id, " at ", where, " is an image's in prompts of ", scheme.family,
      " and is not marked dead, and the model looks up no rows at an image: mark the position in "
      "the dead mask or, where the id is meant as a token like any other, allow it "
      "(--allow-unmasked-images, or allow_unmasked_images of the client or the request)"));
}

// The token ids that stand in the places of an image.
class ImageTokens {
 public:
  // In any order. Those that no token has are left out.
  ImageTokens(absl::Span<const int32_t> ids, uint32_t vocab_size) {
    std::copy_if(ids.begin(), ids.end(), std::back_inserter(ids_),
                 [&](int32_t id) { return static_cast<uint32_t>(id) < vocab_size; });
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    if (ids_.empty()) return;
    first_ = static_cast<uint32_t>(ids_.front());
    span_ = static_cast<uint32_t>(ids_.back()) - first_;
  }
  absl::Span<const int32_t> ids() const { return ids_; }

  // The place of the first token that is an image's and not dead, or how many tokens there are.
  size_t FindLive(absl::Span<const int32_t> token_ids, const uint8_t* dead) const {
    if (ids_.empty()) return token_ids.size();
    // Images' ids lie together, at the end of a vocabulary as a rule: text has none that is near.
    uint32_t near = 0;
    for (const int32_t id : token_ids) near |= static_cast<uint32_t>(id) - first_ <= span_;
    if (near == 0) return token_ids.size();
    for (size_t t = 0; t < token_ids.size(); ++t) {
      if (dead != nullptr && dead[t] != 0) continue;
      if (std::binary_search(ids_.begin(), ids_.end(), token_ids[t])) return t;
    }
    return token_ids.size();
  }

 private:
  std::vector<int32_t> ids_;  // ascending, each once
  uint32_t first_ = 0;        // the smallest
  uint32_t span_ = 0;         // from it to the largest
};

// Row ids of all columns of some tokens, before a slice is taken of them: 32 KiB, which the first
// cache holds beside the tile.
constexpr uint32_t kSlicedIds = 4096;
static_assert(kSlicedIds >= kBlockLanes * kMaxHeadsPerOrder * (kMaxOrder - 1));

bool IsPart(const LayerRowIdsOutput& output) {
  return output.slice != nullptr && !output.slice->is_all();
}

// As many tokens as a tile takes; fewer where slices are taken of very many columns.
uint32_t TokensATile(uint32_t columns, bool parts) {
  return parts ? std::min(kTileTokens, kSlicedIds / columns / kBlockLanes * kBlockLanes)
               : kTileTokens;
}

// All columns are hashed and the slice's are kept: columns that share an order share its mix and
// its vectors, so hashing a part of them alone would save the stores and little else.
void HashSlice(HashKernel hash, const LayerHash& layer, const WindowTile& windows,
               uint32_t layer_columns, const ColumnSlice& slice, RowId* rows, size_t token_stride) {
  alignas(64) RowId all[kSlicedIds];
  hash(layer, windows, all, layer_columns);
  slice.ForEachRun([&](uint32_t slice_column, uint32_t layer_column, uint32_t columns) {
    for (uint32_t c = 0; c < columns; ++c) {
      const RowId* from = all + layer_column + c;
      RowId* to = rows + slice_column + c;
      for (uint32_t t = 0; t < windows.tokens; ++t, from += layer_columns, to += token_stride) {
        *to = *from;
      }
    }
  });
}

}  // namespace

struct Addresser::Kernel {
  Kernel(const AddressScheme& scheme, const TokenMap* token_map,
         absl::Span<const int32_t> image_token_ids)
      : vocab_size(scheme.vocab_size),
        hashed_vocab_size(scheme.token_map ? scheme.token_map->compressed_vocab_size
                                           : scheme.vocab_size),
        lookback(scheme.Lookback()),
        pad(static_cast<uint32_t>(scheme.pad_id)),
        reset(scheme.reset_token_id.value_or(kBlockedEntry)),
        compressed(token_map == nullptr ? nullptr : token_map->compressed().data()),
        hash(ChooseHashKernel(scheme.layers)),
        images(scheme.dead_positions ? image_token_ids : absl::Span<const int32_t>(),
               scheme.vocab_size) {
    for (const LayerAddressing& layer : scheme.layers) layers.emplace_back(scheme, layer);
  }

  // What `token_id` hashes as itself, `*entry`, and what later positions see of it, `*past`. False:
  // out of range.
  bool Compress(int32_t token_id, bool dead, uint32_t* entry, uint32_t* past) const {
    *entry = *past = kBlockedEntry;
    if (dead) return true;
    const uint32_t id = static_cast<uint32_t>(token_id);
    if (id >= vocab_size) return false;
    *entry = compressed == nullptr ? id : static_cast<uint32_t>(compressed[id]);
    *past = id == reset ? kBlockedEntry : *entry;
    return true;
  }

  // Takes the tile's ids in; the place of the first one that is out of range, or `tokens`.
  uint32_t Fill(const int32_t* token_ids, const uint8_t* dead, uint32_t tokens,
                EntryTile* tile) const {
    uint32_t* const history = tile->history + lookback;
    for (uint32_t t = 0; t < tokens; ++t) {
      const bool is_dead = dead != nullptr && dead[t] != 0;
      if (!Compress(token_ids[t], is_dead, &tile->own[t], &history[t])) return t;
    }
    // The last run's rest is hashed, not stored.
    for (uint32_t t = tokens; t < RoundUpToLanes(tokens); ++t) {
      tile->own[t] = history[t] = kBlockedEntry;
    }
    tile->tokens = tokens;
    return tokens;
  }

  void FillWindow(const EntryTile& entries, WindowTile* windows) const {
    windows->tokens = entries.tokens;
    for (uint32_t run = 0; run < entries.tokens; run += kBlockLanes) {
      uint32_t blocked[kBlockLanes] = {};
      for (uint32_t k = 0; k <= lookback; ++k) {
        const uint32_t* const older =
            k == 0 ? entries.own + run : entries.history + lookback - k + run;
        uint32_t* const ids = windows->ids[k] + run;
        for (uint32_t t = 0; t < kBlockLanes; ++t) ids[t] = WindowStep(older[t], pad, &blocked[t]);
      }
    }
  }

  // False: not a state of this scheme.
  bool FromState(const SequenceState& state, EntryTile* tile) const {
    for (uint32_t age = 0; age < lookback; ++age) {
      const int64_t id = state.ids[age];
      if (id != SequenceState::kBlocked && (id < 0 || id >= hashed_vocab_size)) return false;
      tile->history[lookback - 1 - age] =
          id == SequenceState::kBlocked ? kBlockedEntry : static_cast<uint32_t>(id);
    }
    return true;
  }

  // Takes the tile's ids in, `first` of them at position `first` of the tokens. INVALID_ARGUMENT
  // names the first that is out of range, or an image's and not dead.
  absl::Status Take(const AddressScheme& scheme, absl::Span<const int32_t> token_ids,
                    const uint8_t* dead, size_t first, EntryTile* tile) const {
    const auto tokens = static_cast<uint32_t>(token_ids.size());
    const uint32_t taken = Fill(token_ids.data(), dead, tokens, tile);
    if (taken < tokens) return BadToken(scheme, first + taken, token_ids[taken]);
    const size_t image = images.FindLive(token_ids, dead);
    if (image == tokens) return absl::OkStatus();
    return UnmaskedImage(scheme, token_ids[image], absl::StrCat("position ", first + image));
  }

  absl::Status BadToken(const AddressScheme& scheme, size_t position, int32_t token_id) const {
    return absl::InvalidArgumentError(absl::StrCat(
        "token id ", token_id, " at position ", position, " is out of the vocabulary of ",
        scheme.family, ", 0..", vocab_size - 1, UsualCause(scheme, token_id)));
  }

  uint32_t vocab_size;
  uint32_t hashed_vocab_size;
  uint32_t lookback;
  uint32_t pad;
  uint32_t reset;             // raw; kBlockedEntry, which no id is: none
  const int32_t* compressed;  // nullptr: raw ids are hashed
  HashKernel hash;
  ImageTokens images;  // that are refused where they are live
  std::vector<LayerHash> layers;
};

absl::StatusOr<std::shared_ptr<const Addresser>> Addresser::Create(
    AddressScheme scheme, std::shared_ptr<const TokenMap> token_map, ShortSetId set,
    absl::Span<const int32_t> image_token_ids) {
  ENGRAM_RETURN_IF_ERROR(Validate(scheme));
  ENGRAM_RETURN_IF_ERROR(CheckTokenMap(scheme, token_map.get()));
  return std::shared_ptr<const Addresser>(
      new Addresser(std::move(scheme), std::move(token_map), set, image_token_ids));
}

Addresser::Addresser(AddressScheme scheme, std::shared_ptr<const TokenMap> token_map,
                     ShortSetId set, absl::Span<const int32_t> image_token_ids)
    : scheme_(std::move(scheme)),
      token_map_(std::move(token_map)),
      set_(set),
      kernel_(std::make_unique<const Kernel>(scheme_, token_map_.get(), image_token_ids)) {}

Addresser::~Addresser() = default;

absl::Span<const int32_t> Addresser::image_token_ids() const { return kernel_->images.ids(); }

absl::StatusOr<std::shared_ptr<const Addresser>> Addresser::Load(
    AddressScheme scheme, const std::string& token_map_path, ShortSetId set,
    absl::Span<const int32_t> image_token_ids) {
  std::shared_ptr<const TokenMap> token_map;
  if (scheme.token_map) {
    ENGRAM_ASSIGN_OR_RETURN(TokenMap loaded,
                            TokenMap::Load(token_map_path, scheme.vocab_size, *scheme.token_map));
    token_map = std::make_shared<const TokenMap>(std::move(loaded));
  }
  return Create(std::move(scheme), std::move(token_map), set, image_token_ids);
}

SequenceState Addresser::Start() {
  SequenceState state;
  state.ids.fill(SequenceState::kBlocked);
  return state;
}

absl::StatusOr<SequenceState> Addresser::StartAfter(absl::Span<const int32_t> history,
                                                    HistoryOrder order,
                                                    uint64_t tokens_before) const {
  const uint64_t needed = std::min<uint64_t>(tokens_before, scheme_.Lookback());
  if (history.size() < needed || history.size() > tokens_before) {
    return absl::InvalidArgumentError(
        absl::StrCat("a history of ", history.size(), " ids after ", tokens_before,
                     " tokens of a sequence: give the last ", needed,
                     ", and nothing in the place of tokens that are not there"));
  }
  const bool is_newest_first = order == HistoryOrder::kNewestFirst;
  std::array<int32_t, kMaxOrder - 1> window;  // oldest first
  for (size_t age = 0; age < history.size(); ++age) {
    const size_t place = is_newest_first ? age : history.size() - 1 - age;
    const int32_t id = history[place];
    if (static_cast<uint32_t>(id) >= scheme_.vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "id ", id, " at place ", place, " of the history is no token of ", scheme_.family,
          ", 0..", scheme_.vocab_size - 1,
          ": a history holds the ids of live tokens alone. Leave out what is before the sequence, "
          "and after dead positions take Start(), and Advance() with the dead mask"));
    }
    if (age >= needed) continue;
    if (kernel_->images.FindLive({&id, 1}, nullptr) == 0) {
      return UnmaskedImage(scheme_, id,
                           absl::StrCat("place ", place,
                                        " of the history, which has no mask (take Start(), and "
                                        "Advance() with the dead mask),"));
    }
    window[needed - 1 - age] = id;
  }
  SequenceState state = Start();
  ENGRAM_RETURN_IF_ERROR(Advance({window.data(), static_cast<size_t>(needed)}, {}, &state));
  return state;
}

absl::Status Addresser::CheckState(const SequenceState& state) const {
  EntryTile entries;
  return TakeState(state, &entries);
}

absl::Status Addresser::TakeState(const SequenceState& state, EntryTile* entries) const {
  if (state.set != set_ && !state.set.is_none()) {
    return CheckSameSet("the sequence state", state.set, set_,
                        "start the sequence again from its last tokens (Addresser::Start(), then "
                        "Advance())");
  }
  return kernel_->FromState(state, entries) ? absl::OkStatus() : ForeignState(scheme_);
}

absl::Status Addresser::Address(const SequenceState& state, absl::Span<const int32_t> token_ids,
                                absl::Span<const uint8_t> dead,
                                absl::Span<const LayerRowIdsOutput> outputs) const {
  ENGRAM_RETURN_IF_ERROR(CheckMask(scheme_, token_ids.size(), dead));
  const uint32_t columns = scheme_.Columns();
  bool parts = false;
  for (const LayerRowIdsOutput& output : outputs) {
    if (IsSoundAndWhole(scheme_, columns, output)) continue;
    ENGRAM_RETURN_IF_ERROR(CheckOutput(scheme_, token_ids.size(), output));
    parts |= IsPart(output);
  }
  EntryTile entries;
  WindowTile windows;
  ENGRAM_RETURN_IF_ERROR(TakeState(state, &entries));
  const uint32_t tile_tokens = TokensATile(columns, parts);
  for (size_t begin = 0; begin < token_ids.size(); begin += tile_tokens) {
    const uint32_t tokens =
        static_cast<uint32_t>(std::min<size_t>(tile_tokens, token_ids.size() - begin));
    const uint8_t* const tile_dead = dead.empty() ? nullptr : dead.data() + begin;
    ENGRAM_RETURN_IF_ERROR(
        kernel_->Take(scheme_, token_ids.subspan(begin, tokens), tile_dead, begin, &entries));
    kernel_->FillWindow(entries, &windows);
    for (const LayerRowIdsOutput& output : outputs) {
      const LayerHash& layer = kernel_->layers[output.layer_index];
      const bool is_part = parts && IsPart(output);
      if (is_part && output.slice->empty()) continue;  // it may have no memory
      RowId* const rows = output.rows + begin * output.token_stride;
      if (!is_part) {
        kernel_->hash(layer, windows, rows, output.token_stride);
      } else {
        HashSlice(kernel_->hash, layer, windows, columns, *output.slice, rows, output.token_stride);
      }
    }
    // The last entries are the next tile's window.
    std::copy_n(entries.history + tokens, kernel_->lookback, entries.history);
  }
  return absl::OkStatus();
}

absl::Status Addresser::AddressSequences(absl::Span<const SequenceTokens> sequences,
                                         absl::Span<const int32_t> token_ids,
                                         absl::Span<const uint8_t> dead,
                                         absl::Span<const LayerRowIdsOutput> outputs) const {
  absl::InlinedVector<LayerRowIdsOutput, 8> next(outputs.begin(), outputs.end());
  size_t at = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const uint32_t tokens = sequences[i].tokens;
    const absl::Status status = Address(sequences[i].state, token_ids.subspan(at, tokens),
                                        dead.empty() ? dead : dead.subspan(at, tokens), next);
    if (!status.ok()) {
      return absl::Status(status.code(), absl::StrCat("sequence ", i, ": ", status.message()));
    }
    at += tokens;
    for (LayerRowIdsOutput& output : next) {
      if (output.rows != nullptr) output.rows += tokens * output.token_stride;
    }
  }
  return absl::OkStatus();
}

absl::Status Addresser::Advance(absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead,
                                SequenceState* state) const {
  ENGRAM_RETURN_IF_ERROR(CheckMask(scheme_, token_ids.size(), dead));
  EntryTile entries;
  ENGRAM_RETURN_IF_ERROR(TakeState(*state, &entries));
  const uint32_t tokens =
      static_cast<uint32_t>(std::min<size_t>(kernel_->lookback, token_ids.size()));
  const size_t begin = token_ids.size() - tokens;
  const uint8_t* const last_dead = dead.empty() ? nullptr : dead.data() + begin;
  ENGRAM_RETURN_IF_ERROR(
      kernel_->Take(scheme_, token_ids.subspan(begin, tokens), last_dead, begin, &entries));
  *state = Start();
  state->set = set_;
  for (uint32_t age = 0; age < kernel_->lookback; ++age) {
    const uint32_t entry = entries.history[tokens + kernel_->lookback - 1 - age];
    if (entry == kBlockedEntry) break;
    state->ids[age] = entry;
  }
  return absl::OkStatus();
}

}  // namespace engram
