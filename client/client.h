// The SDK's entry: attach to a table set wherever it is served, turn token ids into row ids, fetch
// rows.
//
//   auto client = engram::Client::Attach("grpc:127.0.0.1:7300", {});
//   engram::Client::Plan plan;
//   absl::Status status = (*client)->PlanTokens(state, token_ids, {}, &plan);
//   auto ticket = (*client)->Submit(plan, landings, deadline);
//   status = (*client)->Wait(*ticket);  // OK: every row is in place
//   (*client)->Reap(*ticket);
//
// Targets: embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, shm:SOCKET. Needs no files of its own: the
// address scheme and the token map come from the owner and are checked against the table set's id.
// Thread-safe. Errors are transport.h's; OK means that every row is in place, byte for byte.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/transport/transport.h"
#include "memstore/addressing/addresser.h"

namespace engram {

struct AttachOptions {
  std::string table_set;                       // id or name; empty: the only one served
  absl::Duration timeout = absl::Seconds(30);  // waits while the server is absent or loading
  // How the transport asks. gRPC: "stream" or "unary"; shm: "ring", which maps no tables. Empty:
  // its best way.
  std::string mode = {};
  uint32_t connections = 1;  // gRPC
  uint32_t streams = 1;      // gRPC: of each connection
  // gRPC: how long a thread that waits for the only batch under way looks for its rows before it
  // sleeps; up to 1 ms. Being woken costs about 20 us, so 0 saves power and costs latency.
  absl::Duration spin = absl::Microseconds(200);
};

class Client {
 public:
  // UNAVAILABLE: the target was absent or loading all the time.
  // FAILED_PRECONDITION: no such set, or several and none named (the message lists them).
  // INVALID_ARGUMENT: not a target. DATA_LOSS: what the owner sent is not what its id says.
  static absl::StatusOr<std::unique_ptr<Client>> Attach(absl::string_view target,
                                                        const AttachOptions& options);
  // Over a transport of the caller's (tests, wrappers).
  static absl::StatusOr<std::unique_ptr<Client>> Create(std::unique_ptr<Transport> transport);
  ~Client();

  const Manifest& table_set() const { return transport_->table_set().manifest; }
  const Addresser& addresser() const { return *addresser_; }
  Transport& transport() { return *transport_; }

  // Row ids of a batch, ready to be submitted: [layers][tokens * columns]. Reused from batch to
  // batch it allocates only when a batch is larger than any before.
  struct Plan {
    uint64_t tokens = 0;
    std::vector<std::vector<RowId>> row_ids;  // one a layer of the table set
  };
  absl::Status PlanTokens(const SequenceState& state, absl::Span<const int32_t> token_ids,
                          absl::Span<const uint8_t> dead, Plan* plan) const;

  // The ticket interface over planned tokens. landings: one a layer of the table set, whose group
  // is a token's columns (rows of a token lie together, tokens are group_stride_bytes apart).
  absl::StatusOr<Ticket> Submit(const Plan& plan, absl::Span<const Landing> landings,
                                absl::Time deadline);
  // Over row ids of the caller's.
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch) { return transport_->Submit(batch); }
  TicketState Poll(Ticket ticket) { return transport_->Poll(ticket); }
  absl::Status Wait(Ticket ticket) { return transport_->Wait(ticket); }
  void Cancel(Ticket ticket) { transport_->Cancel(ticket); }
  void Reap(Ticket ticket) { transport_->Reap(ticket); }

  // Blocking: Submit, Wait, Reap. When it returns the buffers are the caller's again.
  absl::Status Lookup(const BatchRequest& batch);

 private:
  Client(std::unique_ptr<Transport> transport, std::shared_ptr<const Addresser> addresser)
      : transport_(std::move(transport)), addresser_(std::move(addresser)) {}

  std::unique_ptr<Transport> transport_;
  std::shared_ptr<const Addresser> addresser_;
};

}  // namespace engram
