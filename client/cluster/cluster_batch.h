// What ClusterTransport keeps for a ticket: the batch as it was split, from which parts are sent
// any number of times, and what a store is asked for of one.
//
// Of a batch by token ids a part is the same tokens with the part's columns. A store whose
// transport does not take that is asked for the same rows by their ids, which are worked out here.
//
// Thread-compatible: filled by the thread that submits, then read, and added to, by whoever sends a
// part.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/ticketed_batch.h"
#include "client/transport/transport.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/cluster/cluster_map.h"
#include "memstore/cluster/router_types.h"
#include "memstore/cluster/split.h"
#include "memstore/table/manifest.h"

namespace engram {

class ClusterBatch final : public TicketedBatch {
 public:
  // What is to be split of a batch that has been checked: its layers that ask for rows.
  void Fill(const BatchRequest& request, const Manifest& manifest, const ClusterMap& map);
  // Any number of times until it is submitted. BatchSplitter::Split has the errors. Keeps what the
  // split would refer to of the caller's. `is_registered`: devices may write where rows land, so
  // parts without lists of places are wanted; where there are none, it has lists as others do.
  absl::Status Split(BatchSplitter& splitter, bool is_registered = false);

  absl::Span<const SplitPart> parts() const { return split_.parts(); }  // as it was submitted
  // One of those, or behind them one that was added.
  const SplitPart& PartAt(uint32_t number) const {
    const size_t first = split_.parts().size();
    return number < first ? split_.parts()[number] : more_parts_[number - first];
  }
  // These requests of a part, by another map. They may be Added once, as they are.
  std::unique_ptr<BatchSplit> SplitAgain(uint32_t number, absl::Span<const uint32_t> requests,
                                         BatchSplitter& splitter) const;
  void Add(std::unique_ptr<BatchSplit> split);
  // Of the layers that were split.
  uint32_t layers() const { return static_cast<uint32_t>(requests_.size()); }
  // Where the layer stands in the caller's batch.
  size_t PlaceOfLayer(uint32_t layer) const { return places_[layer]; }
  // The transport's, with its router's lock.
  BatchId id = 0;
  // The transport's, with the tickets' lock: a byte a part, 1 while rows of it are copied.
  std::vector<uint8_t> is_copied;

 protected:
  bool MayBeKept() const override;

 private:
  friend class PartRequest;
  // Of a layer that one piece has all of: the split refers to what came in.
  struct Kept {
    bool has_ids = false;
    bool has_places = false;
    std::vector<RowId> ids;
    std::vector<uint32_t> places;
  };

  void FillTokens(const TokenBatch& tokens);
  // What a store is asked for of one layer of the part.
  LayerRequest RequestOf(uint32_t number, const PartLayer& layer) const;

  std::vector<SplitRequest> requests_;
  std::vector<uint32_t> numbers_;  // of the layers
  std::vector<size_t> places_;
  std::vector<Kept> kept_;
  BatchSplit split_;
  // Of parts whose pieces went, each of which refers to those before.
  std::vector<std::unique_ptr<BatchSplit>> more_;
  std::vector<SplitPart> more_parts_;
  uint64_t rows_ = 0;
  // Of a batch by token ids; the requests point to the slices.
  bool by_tokens_ = false;
  bool allow_unmasked_images_ = false;
  uint32_t longest_ = 0;  // of the sequences, in tokens
  std::vector<SequenceTokens> sequences_;
  std::vector<int32_t> token_ids_;
  std::vector<uint8_t> dead_;
  std::vector<ColumnSlice> slices_;
};

// Who addresses tokens here: one that knows the token ids of images, and one that takes them as any
// other.
struct PartAddressers {
  static absl::StatusOr<PartAddressers> Create(const AttachedTableSet& set);

  std::shared_ptr<const Addresser> refuses_images;
  std::shared_ptr<const Addresser> takes_images;
};

// A part as its store is asked for it. Used again from part to part it allocates nothing once it
// has seen the largest.
class PartRequest {
 public:
  void Clear();
  void Add(const ClusterBatch& batch, uint32_t number, const PartLayer& layer);
  // What was added of the batch, for a transport that can do so much; it refers to both. Errors are
  // Addresser::AddressSequences'.
  absl::StatusOr<BatchRequest> For(const Capabilities& store, const ClusterBatch& batch,
                                   const PartAddressers& addressers);

 private:
  std::vector<LayerRequest> layers_;
  std::vector<ColumnSlice> slices_;  // of tokens, a layer each
  std::vector<uint32_t> layer_indexes_;
  std::vector<std::vector<RowId>> ids_;  // that were worked out here
  std::vector<LayerRowIdsOutput> outputs_;
  TokenBatch tokens_;
};

}  // namespace engram
