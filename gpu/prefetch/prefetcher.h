// Rows in place before the layer runs: fetches a step's rows of all layers ahead of it, and lets
// streams wait for them without the host waiting.
//
//   auto prefetcher = engram::Prefetcher::Create(client->transport(), *device,
//                                                {.max_tokens = 512});
//   const engram::MonotonicTime deadline = engram::RealClock().After(absl::Milliseconds(50));
//   auto step = (*prefetcher)->Prefetch(
//       {.sequences = ..., .token_ids = ..., .deadline = deadline});
//   ... blocks before the layer, on `stream` ...
//   (*prefetcher)->Wait(*step, layer, *stream);            // enqueues, returns at once
//   ... the layer, on `stream`, reads (*prefetcher)->Rows(*step, layer) ...
//   ... the host reads the sampled tokens ...
//   absl::Status status = (*prefetcher)->Finish(*step);    // not OK: do not commit the step
//
// The rule of the buffers: a slot is a buffer and a status word for each layer; there are `slots`
// of them, at addresses fixed at Create. Step n (steps are counted from 1) has slot n % slots, from
// its Prefetch to its Finish, so Prefetch of step n refuses while step n - slots was not finished.
//
// One stream waits for a layer of a step, once: a second Wait is refused. Another stream that needs
// the layer waits for an Event that the first one records behind its Wait. Streams may read a
// layer's rows of a step from behind their Wait until the step's Finish, which the engine calls
// after what reads them has run.
//
// Every layer of every step ends, LANDED or FAILED, by the step's deadline. Its status word has the
// step's generation, so what completes late, for a step that had the slot before, changes nothing.
// A stream that waits goes on in both cases; after FAILED the rows are undefined and the layer's
// gate must be 0 (GateMayOpen of the word that PlacedRows::status points to).
//
// A rank that reads some of the columns alone (tensor parallelism) says so in `slices`: its rows
// lie [tokens, slice columns], its buffers are sized by that, and nothing else travels.
//
// CUDA graphs: Wait can be captured; a graph belongs to the slot it was captured with, and is
// launched for later steps of the slot after their Prefetch (which does what Wait would).
//
// Thread safety: Prefetch, Wait, Finish, Cancel by one thread at a time (an engine's loop). Nothing
// allocates once batches are no larger than before; Prefetch, Wait and Cancel never block on a
// transport or device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/transport/transport.h"
#include "gpu/device/device.h"
#include "gpu/device/status_word.h"
#include "memstore/addressing/addresser.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"

namespace engram {

// Slots that one prefetcher may have: engines run two to four steps ahead.
inline constexpr uint32_t kMaxSlots = 16;

// A batch. Either token ids on the host, or row ids that a stream of the device's makes.
struct Step {
  absl::Span<const SequenceTokens> sequences = {};  // their tokens follow one another
  absl::Span<const int32_t> token_ids = {};
  // Empty, or a byte a token; what stands in the places of an image has to be dead
  // (PrefetcherOptions::allow_unmasked_images).
  absl::Span<const uint8_t> dead = {};

  // Device memory [layers][tokens][columns], in the table set's order; with slices [layers][tokens]
  // [the layer's slice's columns]. Stays until the step's Finish. An id that is not of its own
  // column's rows fails its layer. Images' tokens are looked for by who addresses
  // (DeviceAddresser), not here.
  const RowId* device_row_ids = nullptr;
  uint32_t device_tokens = 0;
  Event* device_ready = nullptr;  // recorded behind what makes them; null: they are there

  MonotonicTime deadline = MonotonicTime();  // by it every layer has ended; needed
};

struct StepTicket {
  uint64_t step = 0;  // counted from 1; 0 is none
  uint32_t slot = 0;  // that the step has
};

// Where a layer reads its rows of a step: the same for all steps that have the slot.
struct PlacedRows {
  const std::byte* rows = nullptr;   // device memory [tokens][slice columns] of row_bytes each
  uint32_t row_bytes = 0;            // as placed
  const uint32_t* status = nullptr;  // device memory; right once the stream has passed Wait
};

// A layer's rows that have come to the device and are to be placed where the layer reads them:
// dequantised, say. There is none for a slice of no columns.
struct Arrival {
  size_t layer_index = 0;  // in the table set
  uint32_t tokens = 0;
  uint32_t columns = 0;             // of the layer's slice
  uint32_t row_bytes = 0;           // as fetched
  const std::byte* rows = nullptr;  // device memory: row_count rows
  uint32_t row_count = 0;           // tokens * columns, or how many distinct ones
  const uint32_t* inverse =
      nullptr;                  // device memory [tokens * columns]: which of them; null: dense
  std::byte* placed = nullptr;  // device memory: PlacedRows::rows
};
// Enqueues the work on the prefetcher's side stream; called from the prefetcher's threads, one at a
// time.
using PlaceRows = std::function<absl::Status(const Arrival& arrival, Stream& side)>;

enum class FetchPath {
  kTransport,  // the client's transport lands them
  kMapped,     // kernels on the side stream read the tables in place (embedded and mapped shm)
};

// What a hot cache has been good for. A group: the rows of all heads of one order at one position,
// or of those heads that the slice has.
struct HotCacheCounts {
  uint64_t groups = 0;  // that it can hold; 0: there is none
  uint64_t hits = 0;    // groups that were found, and did not travel
  uint64_t misses = 0;
};

struct PrefetcherOptions {
  uint32_t max_tokens = 0;  // of a batch; sizes the buffers
  uint32_t slots = 2;       // steps in flight
  // What is fetched of each layer, one slice a layer of the table set, in its order
  // (SliceOfHeads makes those of a rank). Empty: all columns of every layer. A slice of no columns
  // has landed at once.
  std::vector<ColumnSlice> slices = {};
  FetchPath path = FetchPath::kTransport;
  // Each row travels once a layer and step and is put in its places by place_rows.
  bool distinct = false;
  PlaceRows place_rows = {};            // empty: rows are left as they are fetched
  uint32_t placed_row_bytes = 0;        // with place_rows: a row's bytes as placed
  uint32_t mapped_multiprocessors = 8;  // kMapped, CUDA: how many the gather may occupy
  // kTransport, not distinct: device memory for the rows of n-grams that come again and again
  // (hot_cache.h); what is found there does not travel. 0: none.
  uint64_t hot_cache_bytes = 0;
  // AttachOptions', of steps by token ids: unless it is set, an image's token that is not dead
  // fails the step.
  bool allow_unmasked_images = false;
  // What deadlines are counted by; outlives the prefetcher.
  Clock* clock = &RealClock();
};

class Prefetcher {
 public:
  // `transport` and `device` outlive it; streams that wait for its words are synchronized before it
  // goes. INVALID_ARGUMENT names the option, or which slice is not its layer's;
  // FAILED_PRECONDITION: kMapped over a transport that maps no tables; RESOURCE_EXHAUSTED: memory
  // or threads.
  static absl::StatusOr<std::unique_ptr<Prefetcher>> Create(Transport& transport, Device& device,
                                                            const PrefetcherOptions& options);
  virtual ~Prefetcher() = default;  // cancels what is under way and waits for its buffers

  // Begins the next step: starts fetching every layer's rows, the first layer's first. The step's
  // spans are copied. INVALID_ARGUMENT: more tokens than max_tokens or none, spans that disagree,
  // or no deadline. FAILED_PRECONDITION: the step that has the slot is not finished.
  // RESOURCE_EXHAUSTED: that step is finished, and the transport has not given its buffers back.
  // What is wrong with token ids, with a sequence's state (FAILED_PRECONDITION: it is of another
  // table set) or with the owner of the rows, the step's Finish says.
  virtual absl::StatusOr<StepTicket> Prefetch(const Step& step) = 0;
  // What `stream` does from here on waits until the layer has ended in this step. `layer`: the
  // model's number. INVALID_ARGUMENT: no such layer. FAILED_PRECONDITION: the step was not
  // prefetched or is finished, or the layer is waited for already in it. CANCELLED: the step was
  // cancelled.
  virtual absl::Status Wait(const StepTicket& ticket, uint32_t layer, Stream& stream) = 0;
  // Ends the step, for all of its layers: its slot may be had by the next step, and its rows are
  // read no more. Blocks until every layer has ended (by the step's deadline) and, where one
  // failed, until the transport has given back the slot's buffers, for up to kReapTime more. OK:
  // every row of every layer was in place. Else the step's first error: it must not be committed.
  // FAILED_PRECONDITION as well where the step was not prefetched or is finished.
  virtual absl::Status Finish(const StepTicket& ticket) = 0;
  // Ends those of the step's layers that have not ended, FAILED, at once; the step's Finish is
  // still called and says CANCELLED. Does nothing to a step that is finished.
  virtual void Cancel(const StepTicket& ticket) = 0;

  // Where the layer reads its rows of the step, and their status word; what lies there counts for a
  // stream that has passed Wait. May be asked at any time after Prefetch. INVALID_ARGUMENT: no such
  // layer. FAILED_PRECONDITION: the step was never prefetched.
  virtual absl::StatusOr<PlacedRows> Rows(const StepTicket& ticket, uint32_t layer) const = 0;

  // Since Create. From any thread.
  virtual HotCacheCounts hot_cache() const = 0;
};

}  // namespace engram
