// One batch on its way over gRPC: the requests it was cut into, and what of it has landed.
//
// A batch is cut into parts, each one request; replies are held against what was asked for before
// their rows are copied, once, from gRPC's buffers to where they land. Rows are copied only while
// the batch is IN_FLIGHT: after it failed, was cancelled or reaped nothing is written any more.
// Knows the wire, nothing of calls and queues. Thread-safe where said; state() never blocks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/transport/row_deduplicator.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "proto/wire/lookup_messages.h"

namespace engram {

// What a batch needs of its transport; outlives every batch.
struct GrpcPeer {
  std::string address;  // for messages
  std::string table_set_id;
  const Manifest* manifest = nullptr;
  uint64_t max_request_bytes = 0;  // of one message
  uint64_t max_reply_bytes = 0;    // of the rows one request may ask for
};

class GrpcBatch {
 public:
  // A run of one layer's rows within a part, in the order in which they come.
  struct Piece {
    size_t layer = 0;    // index into the batch's layers
    uint64_t first = 0;  // of the layer's rows that travel
    uint64_t rows = 0;
    uint64_t landed = 0;  // rows of these
  };
  struct Part {
    std::shared_ptr<GrpcBatch> batch;
    std::vector<Piece> pieces;
    size_t at = 0;  // the piece whose rows come next
    // The sender's.
    bool sent_again = false;
    uint64_t wire_id = 0;
    uint64_t timeout_us = 0;
  };

  // `batch` has been checked. Row ids that repeat within a layer travel once, where `planner` finds
  // that it pays.
  static std::shared_ptr<GrpcBatch> Create(const GrpcPeer& peer, const BatchRequest& batch,
                                           Planner& planner);

  // All of the batch, in the order of need.
  std::vector<std::shared_ptr<Part>> Cut();
  // The bytes of a part's request. Any number of times.
  uint64_t RequestBytes(const Part& part) const;
  void WriteRequest(const Part& part, uint8_t* out) const;

  TicketState state() const { return state_.load(std::memory_order_acquire); }
  bool LayerSettled(size_t index) const;
  absl::Status status() const;
  MonotonicTime deadline() const { return deadline_; }
  MonotonicTime begin() const { return begin_; }

  // IN_FLIGHT becomes FAILED_LENT; false when it was something else already. Returns when no row is
  // being copied any more. Thread-safe.
  bool Fail(absl::Status status);
  // Readies the part to be sent once more; false when some of it has landed or the batch is not
  // IN_FLIGHT.
  bool MayRestart(Part& part);
  // Rows of a part's reply. The batch fails when they are not what comes next. `ended`: no more of
  // this part follows.
  void Land(Part& part, absl::Span<const wire::Bytes> chain, const wire::LookupResponse& reply,
            bool ended);

 private:
  struct Layer {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    bool wide = false;
    Landing landing;
    std::vector<RowId> ids;         // that travel
    std::vector<uint32_t> places;   // of each of them; empty: row i lands at place i
    std::vector<RowCopy> copies;    // places that take what another place has
    std::atomic<uint64_t> left{0};  // rows that have not landed
  };

  GrpcBatch(const GrpcPeer& peer, const BatchRequest& batch, Planner& planner);
  wire::RequestHead HeadOf(const Part& part) const;
  wire::RequestLayer LayerOf(const Piece& piece) const;
  absl::Status CheckReply(const Part& part, const wire::LookupResponse& reply, bool ended) const;
  void LandRows(Layer& layer, uint64_t first, absl::Span<const wire::Bytes> chain,
                const wire::Extent& rows) const;

  const GrpcPeer& peer_;
  const MonotonicTime deadline_;
  const MonotonicTime begin_ = RealClock().Now();
  std::vector<std::unique_ptr<Layer>> layers_;
  std::atomic<TicketState> state_{TicketState::kInFlight};
  mutable std::mutex mutex_;  // held while rows are copied
  absl::Status status_;       // guarded by mutex_
  uint64_t parts_left_ = 0;   // guarded by mutex_
};

}  // namespace engram
