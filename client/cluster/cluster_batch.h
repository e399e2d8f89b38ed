// What ClusterTransport keeps for a ticket: the batch as it was split, from which parts are sent
// any number of times.
//
// Thread-compatible: filled by the thread that submits, then read, and added to, by whoever sends a
// part.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "client/transport/ticketed_batch.h"
#include "client/transport/transport.h"
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
  // What a store is asked for of one layer of the part.
  LayerRequest RequestOf(uint32_t number, const PartLayer& layer) const;

  // The transport's, with its router's lock.
  BatchId id = 0;
  // The transport's, with the tickets' lock: a byte a part, 1 while rows of it are copied.
  std::vector<uint8_t> is_copied;

 protected:
  bool MayBeKept() const override;

 private:
  // Of a layer that one piece has all of: the split refers to what came in.
  struct Kept {
    bool is_kept = false;
    std::vector<RowId> ids;
    std::vector<uint32_t> places;
  };

  std::vector<SplitRequest> requests_;
  std::vector<uint32_t> numbers_;  // of the layers
  std::vector<size_t> places_;
  std::vector<Kept> kept_;
  BatchSplit split_;
  // Of parts whose pieces went, each of which refers to those before.
  std::vector<std::unique_ptr<BatchSplit>> more_;
  std::vector<SplitPart> more_parts_;
  uint64_t rows_ = 0;
};

}  // namespace engram
