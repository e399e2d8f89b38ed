// One batch of an RDMA client: what it asks for, cut into requests or into single reads, and how
// much of it has landed.
//
// Cutting: rows of a layer lie back to back or in groups with a stride (landing.h), and a request
// holds kRdmaRequestBytes. Layers that fill each stride together, as [tokens, layers, columns]
// does, travel in whole groups of all of them; else layer after layer, in whole groups where a
// group fits. A request by token ids holds whole sequences, for every layer, with the columns
// wanted of each where those are not all. A layer of no rows (a slice of no columns) does not
// travel, and has landed from the start.
//
// Pure but for what it derives from: no device, thread or lock, and time is passed in. Kept from
// batch to batch for its memory; once that has grown, nothing allocates. Its exchange guards it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/transport/ticketed_batch.h"
#include "client/transport/transport.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"
#include "memstore/rdma/request.h"

namespace engram {

// Where a landing lies in what this client has registered.
struct RdmaLandingPlace {
  uint32_t window = 0;
  uint64_t offset = 0;  // in the window
  uint32_t local_key = 0;
};
// INVALID_ARGUMENT: these bytes lie in no registered buffer.
using FindRdmaLanding =
    absl::FunctionRef<absl::StatusOr<RdmaLandingPlace>(const std::byte* data, uint64_t bytes)>;

// What the owner at the other end of a connection says of itself.
struct RdmaOwnerFeatures {
  std::string name;           // "engramd at HOST:PORT", for messages
  std::string version;        // empty: it said none
  bool token_slices = false;  // it takes token ids with slices
  bool image_checks =
      false;  // it refuses images' tokens that are live, and takes the mark for them
};

class RdmaBatch final : public TicketedBatch {
 public:
  // What a request that was written carries of each of its layers.
  struct RequestLayer {
    uint32_t place = 0;  // of the layer in the batch
    uint64_t rows = 0;
  };
  struct Request {
    std::array<RequestLayer, kRdmaRequestLayers> layers;
    uint32_t layer_count = 0;
    uint32_t bytes = 0;
  };
  // One row, where this side reads by itself.
  struct Read {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    RowId row = 0;
    std::byte* to = nullptr;
    uint32_t local_key = 0;
  };

  // Replaces everything; the batch has passed CheckBatch. INVALID_ARGUMENT names the layer whose
  // landing overlaps itself or is not registered (with the payload that `find` gave), or says that
  // there are too many layers. UNIMPLEMENTED: a landing that lists places.
  absl::Status Take(const BatchRequest& request, const Manifest& manifest, FindRdmaLanding find);

  // UNIMPLEMENTED names both versions: a request of it would hold what the owner did not offer.
  absl::Status CheckOffered(const RdmaOwnerFeatures& owner) const;

  // After a connection that broke, when nothing is under way: what has landed stays, the rest is to
  // be written again. False when that was done once already.
  bool Restart();

  // Writes the next request into `out`, which has kRdmaRequestBytes. Not when AllWritten().
  // `image_checks`: the owner's; to one without them live tokens of images need no mark.
  Request WriteNext(RdmaTag tag, MonotonicTime now, std::byte* out, bool image_checks = false);
  // The next row, in the place of a request. Not when AllWritten().
  Read NextRead();
  bool AllWritten() const {
    if (by_tokens_) return next_sequence_ == sequences_.size() || AllLanded();
    return next_layer_ == layers_.size();
  }
  bool NoneWritten() const { return !begun_; }

  // Rows of a request are in place. True: so is the whole layer.
  bool Land(const RequestLayer& rows);
  bool HasLanded(size_t place) const { return layers_[place].landed == layers_[place].rows; }
  bool AllLanded() const { return to_land_ == 0; }
  size_t layer_count() const { return layers_.size(); }
  uint64_t rows(size_t place) const { return layers_[place].rows; }
  // Calls check(layer, its row ids) until one is not OK.
  absl::Status CheckRows(
      absl::FunctionRef<absl::Status(uint32_t, absl::Span<const RowId>)> check) const;

  // The exchange's.
  uint64_t number = 0;
  uint32_t state_slot = 0;  // where this side reads: the owner's state before and after

 protected:
  bool MayBeKept() const override;

 private:
  struct LayerProgress {
    uint32_t layer = 0;
    RdmaPlace place;
    std::byte* data = nullptr;
    uint32_t local_key = 0;
    size_t first_id = 0;
    uint64_t rows = 0;
    ColumnSlice slice = {};  // of a batch by token ids
    uint64_t written = 0;    // to requests
    uint64_t landed = 0;

    uint64_t OffsetOf(uint64_t row) const { return place.shape.OffsetOf(row, place.row_bytes); }
  };
  struct Writer;

  void Reset(const BatchRequest& request, const Manifest& manifest);
  absl::Status TakeLayer(const LayerRequest& layer, const LayerTableSpec& spec, ColumnSlice slice,
                         FindRdmaLanding find);
  RdmaTokens CountTokens(bool image_checks) const;
  void WriteHead(RdmaTag tag, MonotonicTime now, const Writer& writer, uint32_t id_bytes,
                 std::byte* out) const;
  Request WriteTokens(RdmaTag tag, MonotonicTime now, std::byte* out, bool image_checks);
  uint64_t AddTile(Writer& writer);
  void AddRows(Writer& writer);
  void SkipWritten();

  std::vector<LayerProgress> layers_;
  std::vector<RdmaPlace> places_;
  std::vector<RowId> ids_;
  bool is_tile_ = false;
  bool by_tokens_ = false;
  bool sliced_ = false;                 // by token ids, of a slice that is not all columns
  bool allow_unmasked_images_ = false;  // of a batch by token ids
  bool begun_ = false;                  // something is written, since it restarted
  bool restarted_ = false;
  MonotonicTime until_;                    // its deadline
  std::vector<SequenceTokens> sequences_;  // of a batch by token ids
  std::vector<int32_t> token_ids_;
  std::vector<uint8_t> dead_;
  uint32_t lookback_ = 0;
  size_t next_sequence_ = 0, next_token_ = 0;  // that are not written
  uint32_t id_bytes_ = 4;
  size_t next_layer_ = 0;  // the first with rows that are not written
  uint64_t to_land_ = 0;
};

}  // namespace engram
