// One batch on its way over gRPC: the requests it is cut into, what of it has come, and where that
// lands.
//
// A batch is cut into requests, each one message; replies are held against what was asked for
// before their rows are copied, once, from gRPC's buffers to where they land (landing.h). Of token
// ids a request has whole sequences, and asks for all layers at once. Knows the
// wire, nothing of calls and queues; whether rows may be copied at all is its transport's to say
// (ticketed_transport.h). Thread-compatible: one thread makes it, then one at a time takes replies;
// requests are encoded by any.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/transport/grpc/grpc_tokens.h"
#include "client/transport/row_deduplicator.h"
#include "client/transport/ticketed_batch.h"
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

class GrpcBatch final : public TicketedBatch {
 public:
  // Rows of one layer within a request, in the order in which they come.
  struct Run {
    size_t layer = 0;    // index into the batch's layers
    uint64_t first = 0;  // of the layer's rows that travel
    uint64_t rows = 0;
    uint64_t landed = 0;  // rows of these
  };
  struct Request {
    TicketRef<GrpcBatch> batch;
    std::vector<Run> runs;
    size_t at = 0;            // the run whose rows come next
    GrpcTokens::Part tokens;  // of a batch by token ids
    // The sender's.
    bool sent_again = false;
    uint64_t wire_id = 0;
    uint64_t timeout_us = 0;

    // Whether a row of it has landed.
    bool HasBegun() const { return at > 0 || runs[0].landed > 0; }
  };

  // Makes it the batch that `request`, which has been checked, asks for. Row ids that repeat within
  // a layer travel once, where `deduplicator` finds that it pays. `now` is when it begins.
  void Fill(const GrpcPeer& peer, const BatchRequest& request, RowDeduplicator& deduplicator,
            MonotonicTime now);
  // All of it, in the order of need. Once; the requests hold a reference to it.
  std::vector<std::shared_ptr<Request>> Cut();

  MonotonicTime begin() const { return begin_; }
  // BatchRequest's: whether rows may be copied now, and that they were. Without one they may.
  bool BeginLanding() { return gate_ == nullptr || gate_->BeginLanding(gate_tag_); }
  void EndLanding() {
    if (gate_ != nullptr) gate_->EndLanding(gate_tag_);
  }

  // The bytes of a request's message. Any number of times.
  uint64_t RequestBytes(const Request& request) const;
  void WriteRequest(const Request& request, uint8_t* out) const;

  // INTERNAL: the reply is not what comes next of the request. `ended`: no more of it follows.
  absl::Status CheckReply(const Request& request, const wire::LookupResponse& reply,
                          bool ended) const;
  // Copies the rows of a reply that was checked, and appends the layers that are now in place.
  void LandRows(Request& request, absl::Span<const wire::Bytes> chain,
                const wire::LookupResponse& reply, std::vector<size_t>* landed_layers);

  // What it was cut into, kept by its transport (which guards it) until the ticket is reaped.
  std::vector<std::shared_ptr<Request>>& requests() { return requests_; }

 protected:
  bool MayBeKept() const override;

 private:
  struct Layer {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    bool wide = false;
    std::vector<RowId> ids;        // that travel; none in a batch by token ids
    uint32_t columns = 0;          // of a token, in a batch by token ids
    std::vector<uint32_t> places;  // of each of them; empty: row i lands at place i
    std::vector<RowCopy> copies;   // places that take what another place has
    Landing landing;               // of what travels, its list `places`
    uint64_t left = 0;             // rows that have not landed
  };

  static void FillLayer(const LayerTableSpec& spec, const LayerRequest& request,
                        RowDeduplicator& deduplicator, Layer* layer);
  void FillTokens(const BatchRequest& request);
  std::vector<std::shared_ptr<Request>> CutTokens();
  wire::RequestHead HeadOf(const Request& request) const;
  wire::RequestLayer LayerOf(const Run& run) const;
  static void LandRepeats(const Layer& layer);

  const GrpcPeer* peer_ = nullptr;
  LandingGate* gate_ = nullptr;
  uint64_t gate_tag_ = 0;
  MonotonicTime begin_;
  std::vector<Layer> layers_;  // beyond layer_count_: kept for their memory
  size_t layer_count_ = 0;
  GrpcTokens tokens_;
  std::vector<std::shared_ptr<Request>> requests_;
};

}  // namespace engram
