// One batch in the server: one request as it was read, which may be a part of what the client calls
// a batch. Parsed, checked, then gathered piece by piece into framed messages.
//
// Knows the wire and the store, nothing of gRPC. Reused from batch to batch, so that a warm one
// allocates nothing. Thread-compatible: it belongs to one loop. Cost: one copy of the ids out of
// the message, one pass to check them, one gather.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/base/clock.h"
#include "memstore/gather/parallel_gather.h"
#include "memstore/store/row_source.h"
#include "memstore/store/table_set_registry.h"
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
  // `may_have` is asked about the set before anything is said of it, as TableSetRegistry::Acquire.
  absl::Status Prepare(const TableSetRegistry& registry, const LookupLimits& limits,
                       MayHaveSet may_have = &EverySet);

  uint64_t batch_id() const { return request_.batch_id; }
  // As its message has it, until the next Parse.
  const std::string& table_set_id() const { return request_.table_set_id; }
  bool cancels() const { return request_.cancel; }
  MonotonicTime deadline() const { return deadline_; }
  // Bytes of its ids, and what it keeps for the next ones'.
  uint64_t IdBytes() const { return request_.ListBytes() + lookup_.AddressedBytes(); }
  uint64_t KeptBytes() const { return request_.KeptBytes() + lookup_.KeptBytes(); }
  bool done() const { return at_.layer == lookup_.layers(); }
  // Token ids that it names, and their dead mask, which is empty where none is dead; of row ids
  // none. Until Release.
  size_t Tokens() const { return request_.has_tokens ? request_.tokens.token_ids.size() : 0; }
  absl::Span<const uint8_t> DeadMask() const { return request_.tokens.dead_mask; }
  // Of the whole answer.
  uint64_t Rows() const { return lookup_.Rows(); }
  uint64_t RowsBytes() const { return lookup_.RowsBytes(); }
  // When its message was read, and when its turn was begun to be waited for: its owner's notes.
  MonotonicTime received;
  MonotonicTime waits_since;

  // Asks the set's source for the rows of what is filled next: a stream's next message, or all of a
  // unary answer. As RowSource::Begin; `done` is not called any more after Release.
  // A message has at most `rows_bytes` of rows (one row at least); those of several layers only
  // where all of the batch fits.
  absl::StatusOr<RowSource::When> BeginMessage(uint64_t rows_bytes,
                                               const std::shared_ptr<Executor>& executor,
                                               RowSource::Done done);
  absl::StatusOr<RowSource::When> BeginReply(const std::shared_ptr<Executor>& executor,
                                             RowSource::Done done);
  // Its rows are there: it can be filled.
  bool rows_present() const { return rows_present_; }

  // A stream's answer: the message that was begun. `slab` holds its rows and what frames them.
  // Returns the part of `slab` that was filled.
  absl::Span<std::byte> FillMessage(GatherTeam& team, absl::Span<std::byte> slab);

  // Of rows that were not gathered yet.
  uint64_t RowsLeftBytes() const;

  // A unary answer is one message, filled into one slab after the other once it was begun.
  uint64_t ReplyBytes() const;
  absl::Span<std::byte> FillPart(GatherTeam& team, absl::Span<std::byte> slab);

  // The whole answer, of a stream or a unary call, where there are no rows (done() once it is
  // prepared: all slices were of no columns).
  std::string EmptyReply(bool of_stream) const;

  // Lets go of its rows and the table set.
  void Release();

 private:
  // Rows of one layer that go into a message.
  struct Run {
    size_t layer = 0;
    uint64_t first = 0;
    uint64_t rows = 0;
    wire::ReplyLayerHead head;
  };

  // Of rows that are to be gathered.
  struct Place {
    size_t layer = 0;
    uint64_t row = 0;
  };

  void AddRun(uint64_t rows);
  absl::StatusOr<RowSource::When> BeginRows(const std::shared_ptr<Executor>& executor,
                                            RowSource::Done done);
  // `count` rows of a run of what was begun, from its row `first` on.
  void GatherRun(const Run& run, uint64_t first, uint64_t count, GatherTeam& team, uint8_t* out);
  // What was begun is filled.
  void EndRows();

  absl::Status PrepareTokens(std::shared_ptr<const TableSet> set, const LookupLimits& limits);
  absl::Status PrepareRows(std::shared_ptr<const TableSet> set, const LookupLimits& limits);

  wire::LookupRequest request_;
  std::vector<WantedRows> wanted_;
  std::vector<ColumnSlice> slices_;
  PreparedLookup lookup_;
  MonotonicTime deadline_ = MonotonicTime::Infinite();
  // What was begun: its runs, in order, where the next begins, and its rows where they are not
  // resident.
  std::vector<Run> runs_;
  Place next_;
  RowRequest row_request_;
  bool rows_present_ = false;
  Place at_;  // what is gathered next
};

}  // namespace engram
