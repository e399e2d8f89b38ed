// One batch of an RDMA client: what it asks for, cut into requests, and how much of it has landed.
//
// Kept from batch to batch for its memory. Guarded by the transport's lock; nothing here blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/transport/rdma/rdma_windows.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/rdma/request.h"

namespace engram {

class RdmaBatch {
 public:
  // What a request that was written carries of each of its layers.
  struct Piece {
    uint32_t part = 0;
    uint64_t rows = 0;
  };
  struct Request {
    std::array<Piece, kRdmaRequestLayers> pieces;
    uint32_t layers = 0;
    uint32_t bytes = 0;
  };

  // Replaces everything. INVALID_ARGUMENT: a landing that is not registered.
  absl::Status Take(const BatchRequest& request, const Manifest& manifest,
                    const RdmaWindows& windows);
  // One row, where this side reads by itself.
  struct Read {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    RowId row = 0;
    std::byte* to = nullptr;
    uint32_t local_key = 0;
  };

  // After a connection that broke: what has landed stays, the rest is to be written again. False
  // when that was done once already, or the batch is over.
  bool MayRestart();

  // Writes the next request into `out`, which has kRdmaRequestBytes.
  Request WriteNext(RdmaTag tag, std::byte* out);
  // The next row, in the place of a request.
  Read NextRead();
  bool AllWritten() const {
    return by_tokens_ ? next_sequence_ == sequences_.size() : next_part_ == parts_.size();
  }
  bool NoneWritten() const { return next_part_ == 0 && parts_[0].written == 0; }
  // A piece of it is in place.
  void Land(const Piece& piece);
  void LandAll();
  bool HasLanded(size_t part) const { return parts_[part].landed == parts_[part].rows; }
  bool AllLanded() const { return to_land_ == 0; }
  size_t parts() const { return parts_.size(); }

  // The transport's.
  TicketState state = TicketState::kInFlight;
  absl::Status status;
  MonotonicTime deadline;
  uint32_t requests_out = 0;  // sent and not answered: the owner may still write for them
  uint64_t number = 0;
  uint32_t state_slot = 0;  // where this side reads: the owner's state before and after

 private:
  struct Part {
    uint32_t layer = 0;
    RdmaPlace place;
    std::byte* data = nullptr;
    uint32_t local_key = 0;
    size_t first_id = 0;
    uint64_t rows = 0;
    uint64_t written = 0;  // to requests
    uint64_t landed = 0;
  };
  struct Writer;

  void WriteHead(RdmaTag tag, const Writer& writer, uint32_t id_bytes, std::byte* out) const;
  Request WriteTokens(RdmaTag tag, std::byte* out);
  uint64_t AddTile(Writer& writer);
  void AddRows(Writer& writer);
  void SkipWritten();

  std::vector<Part> parts_;
  std::vector<RdmaPlace> places_;
  std::vector<RowId> ids_;
  bool is_tile_ = false;
  bool by_tokens_ = false;
  bool restarted_ = false;
  std::vector<SequenceTokens> sequences_;  // of a batch by token ids
  std::vector<int32_t> token_ids_;
  std::vector<uint8_t> dead_;
  uint32_t lookback_ = 0, columns_ = 0;
  size_t next_sequence_ = 0, next_token_ = 0;  // that are not written
  uint32_t id_bytes_ = 4;
  size_t next_part_ = 0;  // the first with rows that are not written
  uint64_t to_land_ = 0;
};

}  // namespace engram
