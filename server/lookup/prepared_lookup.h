// From what a request asks for to rows, without a protobuf type: check everything, then gather.
//
// Columns of a layer may be asked for in part (column_slice.h). A layer of which no column is asked
// for is checked as the others are, and is no layer of the lookup: nothing of it is answered.
//
// A PreparedLookup has been checked as a whole (nothing is gathered of a batch with one wrong id),
// pins its table set while it lives, and knows the size of its reply; its rows are then gathered
// layer by layer to wherever the reply is put together. It refers to the request's ids, which must
// outlive it. Preparing one lookup after another in the same object allocates nothing once it has
// seen the largest. Thread-compatible. Cost of preparing: one pass over row ids, or the addressing
// of token ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/gather/gather.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/store/row_source.h"
#include "memstore/store/table_set.h"

namespace engram {

// Rows of one layer, in one of the two widths; the other is empty.
struct WantedRows {
  uint32_t layer = 0;
  absl::Span<const uint32_t> ids32 = {};
  absl::Span<const uint64_t> ids64 = {};
  // Where set, the ids stand [tokens, columns of the slice], and each is held against its column.
  const ColumnSlice* slice = nullptr;
};

// Token ids of some sequences, as lookup.proto's TokenBatch describes them.
struct WantedTokens {
  absl::Span<const uint32_t> layers = {};  // empty: all
  absl::Span<const int32_t> token_ids = {};
  absl::Span<const uint8_t> dead = {};
  absl::Span<const uint32_t> sequence_tokens = {};
  absl::Span<const uint32_t> sequence_lookback = {};
  absl::Span<const ColumnSlice> slices = {};  // none, or one for each layer wanted
  bool allow_unmasked_images = false;         // else an image's token that is not dead is refused
};

// Token ids of some sequences, each after the lookback window that its client has kept
// (SequenceState).
struct WantedSequences {
  absl::Span<const uint32_t> layers = {};
  absl::Span<const uint32_t> sequence_tokens = {};
  uint32_t lookback = 0;  // of the address scheme
  absl::Span<const int32_t> windows =
      {};  // [sequences, lookback] compressed, newest first; -1 is blocked
  absl::Span<const int32_t> token_ids = {};
  absl::Span<const uint8_t> dead = {};
  // None, or one for each layer, and none of them without columns: whoever places the layers of the
  // lookup goes by their order.
  absl::Span<const ColumnSlice> slices = {};
  bool allow_unmasked_images = false;  // as of WantedTokens; windows were checked by who made them
};

struct LookupLimits {
  uint64_t max_batch_rows = 0;
  uint64_t max_reply_bytes = 0;  // the whole message of a unary reply; 0: a stream, no limit
};

class PreparedLookup {
 public:
  // All replace what it held; after an error it holds nothing. INVALID_ARGUMENT names layer,
  // index, value and what would be right; FAILED_PRECONDITION a row that is not held here. What
  // `wanted` refers to outlives the gathering.
  absl::Status PrepareRows(std::shared_ptr<const TableSet> set, absl::Span<const WantedRows> wanted,
                           const LookupLimits& limits);
  // Addresses the tokens of every sequence after its lookback.
  absl::Status PrepareTokens(std::shared_ptr<const TableSet> set, const WantedTokens& wanted,
                             const LookupLimits& limits);
  // The same of sequences whose windows are compressed already; layers in any order.
  absl::Status PrepareSequences(std::shared_ptr<const TableSet> set, const WantedSequences& wanted,
                                const LookupLimits& limits);
  // Lets go of the table set; keeps its memory for the next lookup.
  void Release();

  const TableSet& set() const { return *set_; }
  // Where its rows come from. Gather may be called where that is resident; else its rows are asked
  // for by Wanted.
  const RowSource& source() const { return set_->row_source(); }
  // The layers of the reply, in the order of the request.
  size_t layers() const { return layers_.size(); }
  uint32_t layer(size_t i) const { return layers_[i].layer; }
  uint64_t rows(size_t i) const { return layers_[i].rows; }
  uint32_t row_bytes(size_t i) const { return layers_[i].table.row_bytes; }
  uint64_t LayerBytes(size_t i) const { return layers_[i].rows * layers_[i].table.row_bytes; }
  // Of all layers together.
  uint64_t Rows() const;
  uint64_t RowsBytes() const;
  // Bytes of the ids that tokens were addressed to, and what is kept for them.
  uint64_t AddressedBytes() const;
  uint64_t KeptBytes() const;

  // Rows [first, first + count) of layer i, for its source.
  WantedRun Wanted(size_t i, uint64_t first, uint64_t count) const;

  // Rows [first, first + count) of layer i, back to back in the order of their ids, to `out`.
  void Gather(size_t i, uint64_t first, uint64_t count, GatherTeam& team, std::byte* out) const {
    Gather(i, first, count, team, Landing{.data = out});
  }
  // The same, with the first of them where `landing` has its first row.
  void Gather(size_t i, uint64_t first, uint64_t count, GatherTeam& team,
              const Landing& landing) const;

 private:
  using Outputs = absl::InlinedVector<LayerRowIdsOutput, 8>;
  struct Layer {
    uint32_t layer = 0;
    size_t index = 0;  // in the table set's layers()
    GatherTable table;
    uint64_t rows = 0;
    absl::Span<const uint32_t> ids32;  // one of the two holds `rows` ids
    absl::Span<const uint64_t> ids64;
    const ColumnSlice* slice = nullptr;  // while it is prepared; null: all columns
  };

  // Holds what `add` adds of the set, or nothing.
  absl::Status Prepare(std::shared_ptr<const TableSet> set, absl::FunctionRef<absl::Status()> add);
  absl::Status AddRows(absl::Span<const WantedRows> wanted, const LookupLimits& limits);
  absl::Status AddTokens(const WantedTokens& wanted, const LookupLimits& limits);
  absl::Status AddSequences(const WantedSequences& wanted, const LookupLimits& limits);
  absl::Status AddLayer(uint32_t layer, const ColumnSlice* slice);
  // The layers, by their numbers, of tokens, with a slice each or none.
  absl::Status AddLayers(absl::Span<const uint32_t> layers, absl::Span<const ColumnSlice> slices);
  absl::Status CheckIds(const Layer& layer) const;
  // FAILED_PRECONDITION: the source does not hold all of its rows.
  absl::Status CheckHeld() const;
  // Room for the row ids of so many tokens in every layer; `outputs` says where they go.
  absl::Status MakeRoom(uint64_t tokens, const LookupLimits& limits, Outputs* outputs);
  // Before anything is allocated for the batch.
  absl::Status CheckSize(const LookupLimits& limits) const;

  std::shared_ptr<const TableSet> set_;
  std::vector<Layer> layers_;
  std::vector<std::vector<RowId>> addressed_;  // of token ids, a vector a layer
};

}  // namespace engram
