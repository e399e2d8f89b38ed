// One batch in the server: parsed, checked, then gathered piece by piece into framed messages.
//
// Knows the wire and the store, nothing of gRPC. Reused from batch to batch, so that a warm one
// allocates nothing. Thread-compatible: it belongs to one loop. Cost: one copy of the ids out of
// the message, one pass to check them, one gather.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/base/clock.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/store/store.h"
#include "proto/wire/lookup_messages.h"
#include "server/lookup/prepared_lookup.h"

namespace engram {

class LookupBatch {
 public:
  // Replaces what it held. INVALID_ARGUMENT: no LookupRequest, or what prepared_lookup.h refuses;
  // FAILED_PRECONDITION: the set is not served. batch_id() is right after an error as well, where
  // the message could be parsed. A message that only cancels is OK and not prepared. Its deadline
  // is counted from `now`.
  absl::Status Parse(absl::Span<const wire::Bytes> message, MonotonicTime now);
  // `may_have` is asked about the set before anything is said of it.
  using MayHave = absl::FunctionRef<absl::Status(const TableSet&)>;
  absl::Status Prepare(const Store& store, const LookupLimits& limits, MayHave may_have);

  uint64_t batch_id() const { return request_.batch_id; }
  bool cancels() const { return request_.cancel; }
  MonotonicTime deadline() const { return deadline_; }
  // Bytes of its ids, and what it keeps for the next ones'.
  uint64_t IdBytes() const { return request_.ListBytes() + lookup_.AddressedBytes(); }
  uint64_t KeptBytes() const { return request_.KeptBytes() + lookup_.KeptBytes(); }
  bool done() const { return layer_ == lookup_.layers(); }
  // Of the whole answer.
  uint64_t Rows() const;
  uint64_t RowsBytes() const;
  // When its message was read, and when its turn was begun to be waited for: its owner's notes.
  MonotonicTime received;
  MonotonicTime waits_since;

  // A stream's answer: the next message. As many rows as `slab` holds, at most `rows_bytes` of them
  // (one at least); those of several layers only where all of the batch fits. Returns the part of
  // `slab` that was filled.
  absl::Span<std::byte> FillMessage(uint64_t rows_bytes, GatherTeam& team,
                                    absl::Span<std::byte> slab);

  // Of rows that are to be gathered.
  uint64_t RowsLeftBytes() const;

  // A unary answer is one message, filled into one slab after the other.
  uint64_t ReplyBytes() const;
  absl::Span<std::byte> FillPart(GatherTeam& team, absl::Span<std::byte> slab);

  // Lets go of the table set.
  void Release();

 private:
  // Rows of one layer that go into a message.
  struct Run {
    size_t layer = 0;
    uint64_t first = 0;
    uint64_t rows = 0;
    wire::ReplyLayerHead head;
  };

  void AddRun(uint64_t rows);

  wire::LookupRequest request_;
  std::vector<WantedRows> wanted_;
  PreparedLookup lookup_;
  MonotonicTime deadline_ = MonotonicTime::Infinite();
  std::vector<Run> runs_;  // of the message being filled
  // What is gathered next.
  size_t layer_ = 0;
  uint64_t row_ = 0;
};

}  // namespace engram
