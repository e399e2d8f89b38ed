// The batches of one stream that wait for their rows to be gathered, and whose message is next.
//
// Small batches (whose answer is one message) and large ones take turns, message by message, each
// kind in the order in which it came: so a small batch waits for one message of the large ones at
// most. One whose rows are not there yet is passed by. It knows nothing of gRPC, and of time what
// it is told. Belongs to one thread; the owner bounds how many batches are in it. Cost: Add,
// empty and size are constant, and so is Next where rows are resident. All else goes through the
// batches, the small ones first: Gathered as far as the one that was gathered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "memstore/base/clock.h"
#include "server/lookup/lookup_batch.h"

namespace engram {

class BatchQueue {
 public:
  using Batch = std::unique_ptr<LookupBatch>;

  // `message_bytes`: of rows in one message.
  explicit BatchQueue(uint64_t message_bytes) : message_bytes_(message_bytes) {}

  // A batch that is prepared and has rows left.
  void Add(Batch batch);
  bool empty() const { return small_.empty() && large_.empty(); }
  size_t size() const { return small_.size() + large_.size(); }
  bool Has(uint64_t batch_id) const;
  // The work (FairScheduler::Work) that would be done before that of `batch`, were it added now:
  // small ones are behind small ones, and behind a message of the large ones' for each.
  uint64_t WorkAhead(const LookupBatch& batch) const;

  // The batch whose message is next: one whose rows are there. Null when there is none.
  LookupBatch* Next() const;
  // A message of `batch`, which was Next(), was gathered. Returns the batch when that was its last
  // one, else null.
  Batch Gathered(LookupBatch& batch);

  // Null when it is not there.
  Batch TakeOut(uint64_t batch_id);
  // Those whose deadline has come.
  std::vector<Batch> TakeExpired(MonotonicTime now);
  std::vector<Batch> TakeAll();

 private:
  using Batches = std::deque<Batch>;

  bool IsSmall(const LookupBatch& batch) const { return batch.ReplyBytes() <= message_bytes_; }

  const uint64_t message_bytes_;
  Batches small_, large_;
  bool large_next_ = false;  // where there are both
};

}  // namespace engram
