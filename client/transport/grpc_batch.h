// One batch on its way over gRPC: the calls it was cut into, and what became of them.
//
// A batch is cut into calls whose replies fit one unary message; a few are under way at a time, in
// the order of need. Every reply is checked against what was asked for before its rows are copied
// to the landing buffers, and rows are copied only while the batch is IN_FLIGHT: after it failed,
// was cancelled or reaped nothing is written any more.
//
// Thread-safe: callers wait, cancel and release; the transport's completion thread calls
// OnCallDone.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/transport/transport.h"
#include "proto/engram/v1/lookup.grpc.pb.h"

namespace engram {

// Calls of one batch under way at once: enough to keep the wire busy while a reply is copied out;
// bounds the replies held in memory to this many messages.
inline constexpr size_t kCallsUnderWayPerBatch = 4;

// What a batch needs of its transport; outlives every batch.
struct GrpcChannel {
  v1::Lookup::StubInterface* stub = nullptr;
  grpc::CompletionQueue* queue = nullptr;
  std::string address;  // for messages
  std::string table_set_id;
  const Manifest* manifest = nullptr;
  uint64_t max_reply_bytes = 0;  // of rows in one call
};

class GrpcBatch : public std::enable_shared_from_this<GrpcBatch> {
 public:
  // A run of one layer's rows within a call.
  struct Piece {
    uint32_t layer = 0;
    uint32_t row_bytes = 0;
    uint64_t first = 0;  // of the layer's rows in the batch
    uint64_t rows = 0;
    Landing landing;
  };
  struct Call {
    std::shared_ptr<GrpcBatch> batch;  // while under way
    std::vector<Piece> pieces;
    uint64_t rows_bytes = 0;
    grpc::ClientContext context;
    v1::LookupRequest request;
    v1::LookupResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReaderInterface<v1::LookupResponse>> reader;
  };

  // `batch` has been checked. Copies the row ids into requests.
  GrpcBatch(const GrpcChannel& channel, const BatchRequest& batch);

  // Sends the first calls.
  void Start();
  TicketState Poll();
  absl::Status Wait();
  // IN_FLIGHT becomes FAILED_LENT with `status`; calls under way are cancelled. No effect
  // otherwise.
  void Fail(absl::Status status);
  // `call` has come back. Owned by the caller.
  void OnCallDone(Call* call);

 private:
  void AddPieces(const LayerRequest& request);
  Call* CallWithRoom(uint32_t row_bytes);
  // These need mutex_.
  void StartCalls();
  void FailLocked(absl::Status status);
  absl::Status Land(const Call& call) const;

  const GrpcChannel& channel_;
  const absl::Time deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  TicketState state_ = TicketState::kInFlight;
  absl::Status status_;
  std::deque<std::unique_ptr<Call>> waiting_;
  std::vector<Call*> under_way_;
};

}  // namespace engram
