// The one seam between the client and whatever carries rows: a small batch interface.
//
// Life of a batch: Submit -> IN_FLIGHT -> LANDED, or FAILED_LENT (it failed, its deadline passed or
// it was cancelled, and the transport may still write to the landing buffers) -> Reap -> REAPED.
// From Submit until LANDED or REAPED the landing buffers are the transport's: they are neither
// reused nor freed. LANDED means that every row of the batch is in place, byte for byte; anything
// else leaves the buffers undefined (layers that WaitLayer returned OK for excepted).
//
// Thread safety: every method may be called from any thread; one ticket is waited for by one thread
// at a time. The destructor cancels and reaps every ticket. Row ids and the batch's description are
// copied or sent before Submit returns; only landing buffers are lent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/addressing/token_map.h"
#include "memstore/base/clock.h"
#include "memstore/cluster/router_types.h"
#include "memstore/gather/gather.h"
#include "memstore/partition/partition.h"
#include "memstore/table/manifest.h"

namespace engram {

// Reap returns within this time, whatever the other side does.
inline constexpr absl::Duration kReapTime = absl::Seconds(1);

// Batches that a worker may have open at once: dozens are useful; a caller that never reaps is told
// so.
inline constexpr uint32_t kMaxOpenTickets = 1024;

// How long a wait may look for rows before it sleeps: a large batch takes milliseconds to travel;
// beyond it a core is only kept warm.
inline constexpr absl::Duration kMaxWaitSpin = absl::Milliseconds(10);

// The rows wanted of one layer, and where they land (landing.h says how). A list of places is
// copied before Submit returns, as row ids are.
struct LayerRequest {
  uint32_t layer = 0;
  absl::Span<const RowId> row_ids;
  Landing landing;
  // Where set, the ids stand [tokens, the slice's columns], and each is held against the rows of
  // its own column; a slice of no columns has no ids, needs no landing, and has landed at once.
  // Null: ids in any order, held against the layer's rows. Read within Submit.
  const ColumnSlice* slice = nullptr;
};

// In the place of row ids, for transports that take them: the owner addresses the tokens. A layer's
// rows are then [tokens, columns], those of a token together.
struct TokenBatch {
  // Each of 1..Capabilities::max_sequence_tokens tokens; longer: in parts, each its state.
  absl::Span<const SequenceTokens> sequences;
  absl::Span<const int32_t> token_ids;  // sequence after sequence
  absl::Span<const uint8_t> dead;       // empty, or a byte a token
  // Empty: all columns of every layer of the batch. Else one slice a layer of it, in its order;
  // rows are then [tokens, the slice's columns].
  absl::Span<const ColumnSlice> slices = {};
  // Tokens of images need not be dead (AttachedTableSet::image_token_ids).
  bool allow_unmasked_images = false;
};

// Is told how a ticket goes, beside Poll and Wait, so that nobody needs a thread a ticket.
//
// For each ticket that Submit returned: OnLayerLanded once for each layer that landed while the
// ticket was IN_FLIGHT, in the order in which they landed, then OnTicketEnded exactly once, when it
// is no longer IN_FLIGHT; nothing after that. For a Submit that returned an error: nothing. A call
// may come before Submit returns, and after a Wait for the same thing has returned, but none once
// Reap has: Reap ends an IN_FLIGHT ticket with CANCELLED and returns after the sink was told.
//
// Calls for one ticket come one after the other, those for several at the same time, from whichever
// thread moves the transport along: one within Submit, Poll, Wait, WaitLayer, Cancel or Reap of any
// ticket, or a thread of the transport's own where it has one. Where it has none (shm-ring, rdma),
// nothing lands and no deadline is noticed while nobody is in such a call. No lock of the transport
// is held. A call does a bounded amount of work: it does not block, and calls no method of the
// transport, but hands on what is to be done.
class CompletionSink {
 public:
  virtual ~CompletionSink() = default;
  // `tag`: the batch's. `index`: of the layer in the batch; its rows may be read from now on.
  virtual void OnLayerLanded(uint64_t tag, size_t index) = 0;
  // OK: LANDED. An error: FAILED_LENT, and the buffers are the transport's until Reap.
  virtual void OnTicketEnded(uint64_t tag, const absl::Status& status) = 0;
};

// Is asked before rows are copied into a landing, by whoever asked several owners for the same ones
// (client/cluster). Called by the thread that copies, one batch of a driver after the other, on
// CompletionSink's terms.
class LandingGate {
 public:
  virtual ~LandingGate() = default;
  // True: rows of the batch are copied now, and EndLanding follows. False: they are not, and the
  // batch fails with CANCELLED.
  virtual bool BeginLanding(uint64_t tag) = 0;
  virtual void EndLanding(uint64_t tag) = 0;
};

struct BatchRequest {
  absl::Span<const LayerRequest> layers;  // in the order of need: the first one travels first
  MonotonicTime deadline = MonotonicTime::Infinite();
  // Where set, the layers have no row ids, and their landings groups of a token's columns or none,
  // or a list of places.
  const TokenBatch* tokens = nullptr;
  CompletionSink* sink = nullptr;  // outlives Reap
  uint64_t sink_tag = 0;           // what the sink is told to know the batch by
  // Asked by "grpc" alone, which copies rows by itself; outlives Reap.
  LandingGate* gate = nullptr;
  uint64_t gate_tag = 0;
};

// Whether the layer at `index` of a batch asks for nothing: its slice has no columns.
inline bool AsksForNoRows(const BatchRequest& batch, size_t index) {
  if (batch.tokens != nullptr) {
    return index < batch.tokens->slices.size() && batch.tokens->slices[index].empty();
  }
  const ColumnSlice* const slice = batch.layers[index].slice;
  return slice != nullptr && slice->empty();
}

struct Ticket {
  uint64_t number = 0;  // never reused by one transport
  friend bool operator==(const Ticket&, const Ticket&) = default;
};

enum class TicketState { kInFlight, kLanded, kFailedLent, kReaped };

struct Capabilities {
  absl::string_view
      name;  // "embedded", "grpc", "shm", "shm-ring", "rdma", "rdma-read", "auto", "cluster"
  bool lands_asynchronously;         // Submit returns before rows have landed
  uint64_t max_batch_rows;           // Submit refuses more, INVALID_ARGUMENT
  uint32_t max_sequence_tokens = 0;  // of a TokenBatch; 0: row ids alone are taken
  bool lands_at_places = false;      // takes landings with a list of places
  bool token_slices = false;         // the owner takes a TokenBatch with slices
  bool tokens_at_places = false;     // and lands one at a list of places
  // From so many rows of a layer on repeated row ids may travel once, token ids never do. 0: none.
  uint64_t repeats_removed_from = 0;
  // As the owner said it when it was attached to, for messages. Empty: there is none, or it said
  // none.
  absl::string_view owner_version = {};
};

// What the owner says of the table set when a client attaches; it is the one that was asked for.
struct AttachedTableSet {
  Manifest manifest;
  std::shared_ptr<const TokenMap> token_map;  // null when the scheme has none
  // Token ids that stand in the places of an image and are refused where they are not dead
  // (Addresser::Create). None of an owner that knows none, or is older than that.
  std::vector<int32_t> image_token_ids = {};
  // The rows that the owner holds, of each layer in the manifest's order; empty: all of them, or
  // the owner does not say. It answers others with FAILED_PRECONDITION.
  std::vector<HeldLayer> held = {};
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual const Capabilities& capabilities() const = 0;
  virtual const AttachedTableSet& table_set() const = 0;
  // For a person: which way rows come, and why where there was a choice.
  virtual std::string Describe() const { return std::string(capabilities().name); }
  // What became of the parts of batches that went to several stores; none of one owner's transport.
  virtual std::optional<RouterCounters> routing() const { return std::nullopt; }
  // The stores as this client has them now; none of one owner's transport.
  virtual std::optional<ClusterView> cluster() const { return std::nullopt; }

  // Makes a buffer known for landing before the first Submit that uses it; a transport that needs
  // no registration accepts any buffer and does nothing. Memory stays the caller's and outlives
  // Unregister.
  virtual absl::Status Register(absl::Span<std::byte> buffer) = 0;
  virtual absl::Status Unregister(absl::Span<std::byte> buffer) = 0;
  // The same for a device's memory (a GPU's), which the network card then writes by itself: `fd` is
  // its dma-buf, exported with cuMemGetHandleForAddressRange, of which `buffer` begins at `offset`.
  // UNIMPLEMENTED where the transport, or the card, has no such thing: land in host memory.
  virtual absl::Status RegisterDmabuf(int /*fd*/, uint64_t /*offset*/,
                                      absl::Span<std::byte> /*buffer*/) {
    return absl::UnimplementedError(
        "this transport lands in host memory alone: device memory needs rdma: and a network card "
        "with dma-buf regions");
  }

  // For those who read rows by themselves (a GPU's kernels): the table of the layer at `index` of
  // the table set where all of it is in this process's memory, which it is until the transport
  // goes; else null. What was read counts when MayReadMapped was OK before and MayUseMapped after;
  // their errors are Submit's.
  virtual const GatherTable* MappedTable(size_t) const { return nullptr; }
  virtual absl::Status MayReadMapped() const { return absl::OkStatus(); }
  virtual absl::Status MayUseMapped() const { return absl::OkStatus(); }

  // For those who follow a name (client/follower.h). Blocks: OK once the name of this set may lead
  // to another one, or its owner has stopped, so that attaching again is in order; CANCELLED once
  // `stop` is requested. UNIMPLEMENTED where nothing is ever published. Another error: it cannot be
  // watched now.
  virtual absl::Status WaitSuperseded(std::stop_token /*stop*/) {
    return absl::UnimplementedError("this transport's table set is never superseded");
  }

  // OK: a ticket that is IN_FLIGHT or already LANDED, or, where a thread of the transport's own or
  // another caller's moved it along meanwhile, FAILED_LENT. An error: nothing stays lent, though
  // rows may have been written.
  //   INVALID_ARGUMENT     A shape, layer or row id is wrong. RDMA: a landing lies in no registered
  //                        buffer. Ring: the owner found the ring's state wrong.
  //   UNIMPLEMENTED        The transport or its owner does not take token ids, slices with them, or
  //                        a list of places.
  //   FAILED_PRECONDITION  The set is not served any more, the owner does not hold a row
  //                        (AttachedTableSet::held), a sequence's state is of another set, or this
  //                        process was forked from the one that attached (shared memory).
  //   RESOURCE_EXHAUSTED   kMaxOpenTickets tickets are open.
  //   DEADLINE_EXCEEDED    The deadline passed before the rows were in place or under way.
  //   UNAVAILABLE          Shared memory: the owner has stopped or is gone. RDMA: the connection
  //                        was lost, and no other can be opened.
  //   DATA_LOSS            Shared memory: the set is fenced.
  //   INTERNAL             Shared memory's ring: its counts are wrong.
  //   Any other code       RDMA: why the owner ended the connection or refuses another one.
  // What only a round trip can tell is the ticket's error: over gRPC all that is not wrong with the
  // request itself. Submit takes as long as the gather where rows are gathered in place. Over RDMA,
  // where the connection was lost, it closes that (Poll) and opens another one: at most some
  // seconds, and not beyond the deadline.
  virtual absl::StatusOr<Ticket> Submit(const BatchRequest& batch) = 0;
  // Does not wait for rows. An unknown or reaped ticket is kReaped. It blocks in one case, where an
  // RDMA connection was lost: the connection is closed first, so that nothing lands over it any
  // more, which takes some milliseconds, and 200 ms and more where the device is slow. "auto" then
  // reaps the batch there and asks for it again over gRPC: up to kReapTime.
  virtual TicketState Poll(Ticket ticket) = 0;
  // Blocks until the ticket is no longer IN_FLIGHT, at the latest at its deadline. OK when LANDED,
  // the batch's error otherwise. May be called again; FAILED_PRECONDITION after Reap. One that is
  // under way when another thread reaps the ticket returns how the batch ended.
  virtual absl::Status Wait(Ticket ticket) = 0;
  // As Wait, but returns OK as soon as the layer that stands at `index` in the batch has landed:
  // its rows may be read from then on. An error is the whole batch's: the layers that landed before
  // it stay readable, whatever becomes of the others. A transport that lands all layers at once
  // need not do better than Wait.
  virtual absl::Status WaitLayer(Ticket ticket, size_t index) = 0;
  // Ends an IN_FLIGHT ticket with CANCELLED (FAILED_LENT); no effect on any other.
  virtual void Cancel(Ticket ticket) = 0;
  // Takes the buffers back and forgets the ticket. Blocks for at most kReapTime; an IN_FLIGHT
  // ticket is cancelled first. After it the transport writes to none of the ticket's buffers.
  virtual void Reap(Ticket ticket) = 0;
};

}  // namespace engram
