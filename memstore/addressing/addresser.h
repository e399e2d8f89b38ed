// From token ids to row ids: all steps (range check, compression, lookback window, hash, modulo).
//
// An Addresser is immutable after Create and shared freely between threads. A SequenceState is a
// small value (the last N-1 ids of one sequence, and the table set that they are of): copy it to
// fork a sequence or to keep a point to roll back to. Address() leaves it as it is (draft tokens),
// Advance() commits tokens to it. A state of one set is never used with another's addresser: that
// is FAILED_PRECONDITION with both ids, for token maps and lookbacks differ from set to set.
// An addresser may know the token ids that stand in the places of an image. Where the scheme has
// dead positions it refuses one of them that is not dead, as ids of no token are refused: the model
// looks up nothing there, and rows of that id would be wrong without a word. A scheme without dead
// positions is of models that hash such an id as any other, and so does its addresser.
// Nothing allocates after Create but an error's message. Cost: addresser_benchmark; well below a
// nanosecond a row id where there is AVX2.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/scheme.h"
#include "memstore/addressing/set_id.h"
#include "memstore/addressing/token_map.h"

namespace engram {

// The lookback window: the last ids before the next token. Entry 0 is the newest. Blocking is
// sticky: at and behind the first blocked entry the pad is used, and everything behind it is
// kBlocked too, so that states with equal ids address alike.
struct SequenceState {
  static constexpr int64_t kBlocked = INT64_MIN;
  std::array<int64_t, kMaxOrder - 1> ids;  // compressed, or kBlocked
  // Of the addresser that last advanced it. None at a sequence's start, which is the same for every
  // set, and where somebody filled in the ids: such a state is taken by every addresser.
  ShortSetId set;

  friend bool operator==(const SequenceState&, const SequenceState&) = default;
};

// Tokens of one sequence in a batch: a prefill chunk, a decode step, a decode step and its drafts.
struct SequenceTokens {
  SequenceState state;  // before the first of them
  uint32_t tokens = 0;
};

// Where one layer's row ids go: token t, column c at rows[t * token_stride + c]; with a slice, c is
// the slice's column. A slice of no columns writes nothing and needs no memory.
struct LayerRowIdsOutput {
  uint32_t layer_index = 0;  // in scheme().layers
  RowId* rows = nullptr;
  size_t token_stride = 0;             // in row ids, at least columns
  const ColumnSlice* slice = nullptr;  // of this layer; null: all of its columns
};

// How the ids of a history lie: engines keep them either way.
enum class HistoryOrder { kOldestFirst, kNewestFirst };

class Addresser {
 public:
  // The scheme is validated; a scheme with a token map needs one (INVALID_ARGUMENT names it). `set`
  // is the table set whose scheme it is; none for a scheme alone (tools, tests). `image_token_ids`,
  // as they stand in token ids (before the token map): refused where they are not dead. Empty: none
  // are known, or they are meant as tokens like any other.
  static absl::StatusOr<std::shared_ptr<const Addresser>> Create(
      AddressScheme scheme, std::shared_ptr<const TokenMap> token_map, ShortSetId set = {},
      absl::Span<const int32_t> image_token_ids = {});
  // The same with the token map, where the scheme has one, from this file. Errors of
  // TokenMap::Load.
  static absl::StatusOr<std::shared_ptr<const Addresser>> Load(
      AddressScheme scheme, const std::string& token_map_path, ShortSetId set = {},
      absl::Span<const int32_t> image_token_ids = {});

  const AddressScheme& scheme() const { return scheme_; }
  const std::shared_ptr<const TokenMap>& token_map() const { return token_map_; }
  ShortSetId set() const { return set_; }
  // Those that it refuses: ascending, each once; none for a scheme without dead positions.
  absl::Span<const int32_t> image_token_ids() const;

  // The state at a sequence's start, for any addresser; the first one that advances it makes it its
  // own.
  static SequenceState Start();

  // The state after `tokens_before` tokens of a sequence, for engines that keep ids and no states:
  // `history` are the last of them, min(tokens_before, scheme().Lookback()) at least and no more
  // than there were. A sequence that is shorter than the window has a shorter history, never one
  // that is filled up: -1 in it, as any id that the scheme has not, is INVALID_ARGUMENT, and so is
  // another number of ids. Of live tokens alone: after an image take Start(), and Advance() with
  // the dead mask; an image's token in the window is refused.
  // Test vector (longcat-flash-lite): after {11, 523, 9001} oldest first, or {9001, 523, 11} newest
  // first, 3 tokens before, the token 44 has row 4,063,161 of column 0 and row 8,640,817 of column
  // 11, counted from the column's first.
  absl::StatusOr<SequenceState> StartAfter(absl::Span<const int32_t> history, HistoryOrder order,
                                           uint64_t tokens_before) const;

  // Whether a state may be used here: FAILED_PRECONDITION names its set and this one,
  // INVALID_ARGUMENT says that it holds an id that the scheme has not. Address and Advance ask by
  // themselves; for those who send a state's ids elsewhere.
  absl::Status CheckState(const SequenceState& state) const;

  // Row ids of `token_ids`, which follow `state`. `dead`: empty, or a byte for each token, non-zero
  // is dead: it is addressed as all pads and blocks the window of later ones; its id is not looked
  // at. INVALID_ARGUMENT names the first token id that is out of range, or an image's and not dead,
  // and its position (output is then undefined), a mask of the wrong length, a mask given to a
  // scheme without dead positions, or an output that cannot be. Errors of CheckState. A slice costs
  // as much as all columns and about a nanosecond more for each row id of its own.
  absl::Status Address(const SequenceState& state, absl::Span<const int32_t> token_ids,
                       absl::Span<const uint8_t> dead,
                       absl::Span<const LayerRowIdsOutput> outputs) const;

  // The same of a batch: `token_ids` (and `dead`) are the sequences' tokens, sequence after
  // sequence, as many as they say. Errors name the sequence.
  absl::Status AddressSequences(absl::Span<const SequenceTokens> sequences,
                                absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead,
                                absl::Span<const LayerRowIdsOutput> outputs) const;

  // Commits `token_ids` to `state`. Same errors; on error the state is as it was. Cost: the last
  // N-1; ids before those cannot matter any more and are not looked at.
  absl::Status Advance(absl::Span<const int32_t> token_ids, absl::Span<const uint8_t> dead,
                       SequenceState* state) const;

  struct Kernel;  // the loop for the machine's instruction set and what it reads (addresser.cc)
  ~Addresser();
  Addresser(const Addresser&) = delete;
  Addresser& operator=(const Addresser&) = delete;

 private:
  struct EntryTile;  // ids of some tokens and of the window before them (addresser.cc)

  Addresser(AddressScheme scheme, std::shared_ptr<const TokenMap> token_map, ShortSetId set,
            absl::Span<const int32_t> image_token_ids);

  absl::Status TakeState(const SequenceState& state, EntryTile* entries) const;

  AddressScheme scheme_;
  std::shared_ptr<const TokenMap> token_map_;
  ShortSetId set_;
  std::unique_ptr<const Kernel> kernel_;
};

}  // namespace engram
