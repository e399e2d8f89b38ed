// The SDK's entry: attach to a table set wherever it is served, turn token ids into row ids, fetch
// rows.
//
//   auto client = engram::Client::Attach("grpc:127.0.0.1:7300", {});
//   engram::Client::Plan plan;  // reused from step to step, as the landing buffers are
//   auto ticket = (*client)->Prefetch(state, token_ids, {}, landings, deadline, &plan);
//   // ... what comes before the first of the layers ...
//   absl::Status status = (*client)->WaitLayer(*ticket, 0);  // OK: its rows are in place
//   status = (*client)->Wait(*ticket);                       // and all others'
//   (*client)->Reap(*ticket);
//
// A landing buffer is registered once and lent from Prefetch or Submit until its ticket is LANDED
// or reaped: until then it is neither read (a layer that WaitLayer returned OK for excepted), nor
// written, nor given to another batch; from then on it is the caller's, for the next one.
//
// Targets: embedded:DIR, grpc:HOST:PORT, grpc:unix:PATH, shm:SOCKET, rdma:HOST:PORT,
// auto:HOST:PORT, and of several stores cluster:... (target.h). Needs no files of its own: the
// address scheme and the token map come from the owner and are checked against the table set's id.
// Over RDMA landing buffers are registered first (Register). Thread-safe. Errors are transport.h's;
// OK means that every row is in place, byte for byte.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/client_metrics.h"
#include "client/transport/row_deduplicator.h"
#include "client/transport/security_options.h"
#include "client/transport/transport.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/discovery/etcd_security.h"

namespace engram {

// Of this SDK, as "0.1.0"; engramd of the same build has the same. For logs: what the two ends of a
// connection can do is never told by it.
absl::string_view SdkVersion();

struct AttachOptions {
  std::string table_set = {};  // name, id or its first 12 digits; empty: the only one
  absl::Duration timeout = absl::Seconds(30);  // waits while the server is absent or loading
  // How the transport asks. gRPC: "stream" or "unary"; shm: "ring", which maps no tables; rdma:
  // "write", or "read", by which the client reads rows by itself; cluster: "grpc" alone, or of the
  // faster ways to its stores "ring" or "read". Empty: its best way.
  std::string mode = {};
  uint32_t connections = 1;  // gRPC: 1..kMaxConnections
  uint32_t streams = 1;      // gRPC: of each connection, 1..kMaxStreams
  static constexpr uint32_t kMaxConnections = 16;
  static constexpr uint32_t kMaxStreams = 16;
  // gRPC, RDMA: how long at most a thread that waits for a batch under way looks for its rows
  // before it sleeps; up to 10 ms, 0: never. Being woken costs about 20 us. It does not look where
  // waits last longer than this anyway; over RDMA, nor where other threads want the core, to which
  // one over gRPC yields between looks.
  absl::Duration spin = absl::Microseconds(200);
  // RDMA: this side's device, DEV[:PORT[:GID]]. Empty: the one that leads to the owner.
  std::string rdma_device = {};
  // Where this client is: of several stores that hold the same rows, those of this zone (engramd
  // --zone) are asked first. Letters, digits, '.', '_', '-'; empty: no preference.
  std::string zone = {};
  // A table set may know which token ids stand in the places of an image
  // (Addresser::image_token_ids). They are to be marked in the dead mask, and are refused where
  // they are not, unless this is set: then they are tokens like any other.
  bool allow_unmasked_images = false;
  // gRPC, RDMA. Shared memory has its socket's users for it, embedded needs none.
  SecurityOptions security = {};
  // Of cluster:etcd:... alone: how etcd is known, and what proves this client to it. Without `ca`,
  // `cert` and `key` those of `security` are etcd's as well, so that addresses do not come in the
  // clear where stores speak TLS; with any of the three none of `security` is. The stores' token
  // and server name are never used for etcd, nor etcd's user for stores.
  EtcdSecurity etcd = {};
  // Of everything that waits, is late or is tried again; outlives the client.
  Clock* clock = &RealClock();
};

class Client {
  using LayerOutputs = absl::InlinedVector<LayerRowIdsOutput, 8>;

 public:
  // UNAVAILABLE: the target was absent or loading all the time.
  // FAILED_PRECONDITION: no such set, or several and none named (the message lists them).
  // UNAUTHENTICATED: one side does not take the other's certificate or token. PERMISSION_DENIED:
  // not this table set, or not this user. INVALID_ARGUMENT: not a target. DATA_LOSS: what the owner
  // sent is not what its id says, or the set that was named is fenced.
  static absl::StatusOr<std::unique_ptr<Client>> Attach(absl::string_view target,
                                                        const AttachOptions& options);
  // Over a transport of the caller's (tests, wrappers). The clock times waits for metrics(), and
  // outlives the client. The last one is AttachOptions'.
  static absl::StatusOr<std::unique_ptr<Client>> Create(std::unique_ptr<Transport> transport,
                                                        const Clock& clock = RealClock(),
                                                        bool allow_unmasked_images = false);
  ~Client();

  const Manifest& table_set() const { return transport_->table_set().manifest; }
  const Addresser& addresser() const { return *addresser_; }
  Transport& transport() { return *transport_; }

  // Row ids of a batch, ready to be submitted, and where rows land. Dense: row_ids[layer] is
  // [tokens * columns], rows land in that order, inverse is empty. Distinct: each row id stands,
  // and lands, once a layer, in the order of its first use; the row of token t and column c is the
  // one at place inverse[layer][t * columns + c]. Columns are the slice's where there are slices.
  // Reused from batch to batch it allocates only when a batch is larger than any before.
  struct Plan {
    uint64_t tokens = 0;
    std::vector<std::vector<RowId>> row_ids;     // one a layer of the table set
    std::vector<std::vector<uint32_t>> inverse;  // one a layer, or none
    std::vector<RowId> scratch;                  // MakeDistinct's
    std::vector<ColumnSlice> slices;             // one a layer; none: all columns of every layer
    // Of the table set that it was planned for, and is refused by any other. None: filled in by
    // somebody else, and taken by every client whose layers and columns it fits.
    ShortSetId set;
  };
  // A dense one. `dead`: empty, or a byte a token; what stands in the places of an image has to be
  // dead (AttachOptions::allow_unmasked_images). `slices`: empty, or one a layer of the table set,
  // that its ids are of and its rows land by; a slice of no columns asks nothing of its layer.
  // INVALID_ARGUMENT: what Addresser::Address refuses, or another number of slices;
  // FAILED_PRECONDITION: a state of another table set. On error *plan has no row_ids, whatever was
  // in it, so that Submit refuses it; its other fields say nothing then.
  absl::Status PlanTokens(const SequenceState& state, absl::Span<const int32_t> token_ids,
                          absl::Span<const uint8_t> dead, Plan* plan,
                          absl::Span<const ColumnSlice> slices = {}) const;
  // Makes a dense plan distinct; one that is distinct stays as it is. For consumers that un-permute
  // by themselves (a GPU's gather, a fused layer): the least bytes travel and none is copied to a
  // second place. Cost: a hash look-up a row id.
  void MakeDistinct(Plan* plan);

  // A buffer that batches land in; of use to all transports, needed by RDMA. Not on the way of a
  // lookup: memory is pinned.
  absl::Status Register(absl::Span<std::byte> buffer) { return transport_->Register(buffer); }
  absl::Status Unregister(absl::Span<std::byte> buffer) { return transport_->Unregister(buffer); }

  // The ticket interface over planned tokens. landings: one a layer of the table set, with room for
  // the layer's row_ids; none is needed (data null) for a layer whose slice has no columns. A dense
  // plan's groups are a token's columns (rows of a token lie together, tokens are
  // group_stride_bytes apart), a distinct plan's are single rows. FAILED_PRECONDITION names both
  // ids: a plan of another table set. A dense plan's ids are held against their columns once more
  // (LayerRequest::slice).
  absl::StatusOr<Ticket> Submit(const Plan& plan, absl::Span<const Landing> landings,
                                MonotonicTime deadline);
  // Plans a dense batch and submits it: from token ids known to rows under way in one call. Errors
  // are PlanTokens', with which *plan has no row_ids, or Submit's, with which it is planned.
  absl::StatusOr<Ticket> Prefetch(const SequenceState& state, absl::Span<const int32_t> token_ids,
                                  absl::Span<const uint8_t> dead,
                                  absl::Span<const Landing> landings, MonotonicTime deadline,
                                  Plan* plan, absl::Span<const ColumnSlice> slices = {});
  // The same for batches of many sequences (a decode step), without a plan of the caller's. Where
  // the transport takes token ids they travel as they are and the owner addresses them (a request
  // is then a tenth of the size, or less), slices too where the owner takes them; else, and where
  // over gRPC there are so many rows that repeated ones are taken out, row ids are worked out here.
  // Same errors as PlanTokens, from here or from the owner.
  absl::StatusOr<Ticket> SubmitTokens(absl::Span<const SequenceTokens> sequences,
                                      absl::Span<const int32_t> token_ids,
                                      absl::Span<const uint8_t> dead,
                                      absl::Span<const Landing> landings, MonotonicTime deadline,
                                      absl::Span<const ColumnSlice> slices = {});
  // Over row ids of the caller's: of another engine's kernels, say. With LayerRequest::slice they
  // are held against their columns, which nothing else does.
  absl::StatusOr<Ticket> Submit(const BatchRequest& batch);
  TicketState Poll(Ticket ticket) { return transport_->Poll(ticket); }
  absl::Status Wait(Ticket ticket);
  // `index`: of the layer within the batch; of a plan's, within the table set.
  absl::Status WaitLayer(Ticket ticket, size_t index);
  void Cancel(Ticket ticket) { transport_->Cancel(ticket); }
  void Reap(Ticket ticket) { transport_->Reap(ticket); }

  // What was counted of all this since the client was made.
  ClientMetrics metrics() const;

  // Blocking: Submit, Wait, Reap. When it returns the buffers are the caller's again.
  absl::Status Lookup(const BatchRequest& batch);

 private:
  // What a call of SubmitTokens works in, kept for a later one.
  struct TokensScratch {
    Plan plan;
    std::vector<SequenceTokens> parts;

    uint64_t KeptBytes() const;
  };

  Client(std::unique_ptr<Transport> transport, std::shared_ptr<const Addresser> addresser,
         const Clock& clock, bool allow_unmasked_images)
      : clock_(clock),
        transport_(std::move(transport)),
        addresser_(std::move(addresser)),
        allow_unmasked_images_(allow_unmasked_images) {}

  absl::Status CheckSequences(absl::Span<const SequenceTokens> sequences,
                              absl::Span<const int32_t> token_ids,
                              absl::Span<const uint8_t> dead) const;
  // Whether SubmitTokens sends token ids.
  bool GoByTokens(const Capabilities& transport, uint64_t tokens,
                  absl::Span<const ColumnSlice> slices) const;
  // SubmitTokens by row ids, which are put into `plan`, and by token ids, for which the sequences
  // are cut into `parts`.
  absl::StatusOr<Ticket> SubmitAddressed(absl::Span<const SequenceTokens> sequences,
                                         absl::Span<const int32_t> token_ids,
                                         absl::Span<const uint8_t> dead,
                                         absl::Span<const Landing> landings, MonotonicTime deadline,
                                         absl::Span<const ColumnSlice> slices, Plan* plan);
  absl::StatusOr<Ticket> SendTokens(absl::Span<const SequenceTokens> sequences,
                                    absl::Span<const int32_t> token_ids,
                                    absl::Span<const uint8_t> dead,
                                    absl::Span<const Landing> landings, MonotonicTime deadline,
                                    absl::Span<const ColumnSlice> slices,
                                    std::vector<SequenceTokens>* parts);
  // Submits requests for all layers, by a plan or by `tokens`, whose slices have been checked.
  absl::StatusOr<Ticket> SubmitLayers(const Plan* plan, const TokenBatch* tokens,
                                      absl::Span<const Landing> landings, MonotonicTime deadline);
  // Counts it.
  absl::Status Refused(absl::Status status);
  // INVALID_ARGUMENT: neither none nor one that fits each layer.
  absl::Status CheckSlicesOfSet(absl::Span<const ColumnSlice> slices) const;
  // Room for a dense plan, and where its row ids go. The slices have been checked, and may be the
  // plan's own.
  LayerOutputs MakeRoom(uint64_t tokens, absl::Span<const ColumnSlice> slices, Plan* plan) const;

  const Clock& clock_;
  ClientCounters counters_;
  std::unique_ptr<Transport> transport_;
  std::shared_ptr<const Addresser> addresser_;
  const bool allow_unmasked_images_;
  RowDeduplicator deduplicator_;
  Mutex scratch_mutex_;
  // Of no call at the moment: at most as many as there were calls at once, each of bounded size.
  std::vector<std::unique_ptr<TokensScratch>> scratch_ ABSL_GUARDED_BY(scratch_mutex_);
};

}  // namespace engram
