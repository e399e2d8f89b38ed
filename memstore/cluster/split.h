// A batch split by the pieces of a cluster map: which rows are asked of which piece, and where each
// lands in the caller's buffer.
//
// Ids that stand in columns ([tokens, slice columns]) are split by their column: what is copied of
// a token is the same for every token, so no row is looked up. Where rows land then is strides
// where a piece's columns lie together in the caller's slice, else a list of places that is made
// once for all batches of the shape. Ids in any order are split by row ranges; a part whose rows
// end up side by side needs no list either. A batch by tokens is split into slices alone, without
// ids.
//
// Pure arithmetic, no lock: a splitter and a split belong to one thread at a time. Warm (shapes
// that were split before, batches no larger than before) nothing allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/scheme.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/gather/landing.h"

namespace engram {

// What is asked of one layer. Ids and landing have been checked (CheckBatch of the transports):
// ids are rows of the table, and of their own columns where there is a slice.
struct SplitRequest {
  uint32_t layer_index = 0;  // of the map
  uint32_t row_bytes = 0;
  // [tokens, the slice's columns]; without a slice in any order.
  absl::Span<const RowId> row_ids = {};
  const ColumnSlice* slice = nullptr;
  uint64_t tokens = 0;  // of a batch by tokens: there is a slice then, and no ids
  Landing landing = {};
};

// What one part asks of one layer.
struct PartLayer {
  uint32_t request = 0;  // its place in the batch
  uint64_t rows = 0;
  absl::Span<const RowId> row_ids = {};  // empty in a batch by tokens
  Landing landing = {};
  // The columns that the ids stand in, or that the tokens are to be addressed to; null of ids in
  // any order.
  const ColumnSlice* slice = nullptr;
};

// What is asked of one piece with one request. Of columns in more than ColumnSlice::kMaxRuns runs
// there are several.
struct SplitPart {
  uint32_t piece = 0;
  uint64_t rows = 0;
  uint64_t bytes = 0;
  absl::Span<const PartLayer> layers = {};  // in the batch's order
};

enum class SplitStyle {
  kPlaces,  // one part a piece as a rule; rows may land by a list of places
  // No lists, for wires that have none: a piece whose columns are several runs of the caller's
  // slice is several parts, of a run each.
  kRuns,
};

// The result, whose memory is used again by the next Split into it. Spans of it live until then.
class BatchSplit {
 public:
  absl::Span<const SplitPart> parts() const { return parts_; }  // ascending by piece

 private:
  friend class BatchSplitter;
  struct Entry {
    uint32_t key = 0;
    PartLayer layer;
    RowId* ids = nullptr;  // what layer.row_ids shows, while they are copied
  };

  std::vector<SplitPart> parts_;
  std::vector<PartLayer> layers_;
  std::vector<Entry> entries_;
  std::vector<RowId> ids_;
  std::vector<uint32_t> places_;
  std::vector<uint32_t> begins_, next_;  // of pieces, in what is split by ranges
  size_t ids_used_ = 0;
  size_t places_used_ = 0;
  // Slices and lists that the parts point to.
  std::vector<std::shared_ptr<const void>> kept_;
};

class BatchSplitter {
 public:
  explicit BatchSplitter(std::shared_ptr<const ClusterMap> map);
  ~BatchSplitter();

  const std::shared_ptr<const ClusterMap>& map() const { return map_; }

  // Rows of columns that no store holds make a part, too, of the map's piece without stores.
  // INVALID_ARGUMENT: a layer that the map has not; a slice of another number of columns, or ids
  // that are no whole tokens of it; 2^32 rows and more; kRuns with a list of places, with groups
  // that are not a token's columns, or with ids in any order whose parts do not lie together.
  absl::Status Split(absl::Span<const SplitRequest> layers, SplitStyle style, BatchSplit* split);

  // Shapes that are remembered. A model asks with one slice a layer; beyond it all are made anew.
  static constexpr size_t kMaxShapes = 2048;

 private:
  struct Lane;
  struct Shape;
  struct Pattern;

  std::shared_ptr<const Shape> ShapeOf(uint32_t layer_index, const ColumnSlice& slice,
                                       SplitStyle style);
  std::shared_ptr<const Shape> MakeShape(uint32_t layer_index, const ColumnSlice& slice,
                                         SplitStyle style);
  void CutLanes(Shape* shape) const;
  uint32_t PatternOf(uint32_t columns, absl::Span<const ColumnRun> runs);
  absl::Span<const uint32_t> PlacesOf(uint32_t pattern, uint64_t tokens, BatchSplit* split);
  absl::Status SplitColumns(uint32_t index, const SplitRequest& request, SplitStyle style,
                            BatchSplit* split);
  absl::Status LandLane(const SplitRequest& request, const Shape& shape, const Lane& lane,
                        uint64_t tokens, SplitStyle style, BatchSplit* split, Landing* landing);
  absl::Status SplitRanges(uint32_t index, const SplitRequest& request, SplitStyle style,
                           BatchSplit* split);
  void CollectParts(absl::Span<const SplitRequest> requests, BatchSplit* split);

  const std::shared_ptr<const ClusterMap> map_;
  std::vector<std::shared_ptr<const Shape>> shapes_;
  std::vector<Pattern> patterns_;
};

}  // namespace engram
