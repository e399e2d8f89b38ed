#include "server/lookup/batch_queue.h"

#include <algorithm>
#include <utility>

#include "memstore/base/check.h"
#include "server/lookup/fair_scheduler.h"

namespace engram {

void BatchQueue::Add(Batch batch) {
  ENGRAM_CHECK(!batch->done(), "a batch without rows waits for them");
  (IsSmall(*batch) ? small_ : large_).push_back(std::move(batch));
}

bool BatchQueue::Has(uint64_t batch_id) const {
  const auto same = [batch_id](const Batch& batch) { return batch->batch_id() == batch_id; };
  return std::any_of(small_.begin(), small_.end(), same) ||
         std::any_of(large_.begin(), large_.end(), same);
}

uint64_t BatchQueue::WorkAhead(const LookupBatch& batch) const {
  const auto sum = [](const Batches& batches) {
    uint64_t work = 0;
    for (const Batch& one : batches) work += FairScheduler::Work(one->RowsLeftBytes());
    return work;
  };
  if (!IsSmall(batch)) return sum(small_) + sum(large_);
  const uint64_t message = FairScheduler::Work(message_bytes_);
  return sum(small_) + std::min(sum(large_), (small_.size() + 1) * message);
}

LookupBatch* BatchQueue::Next() const {
  const auto first = [](const Batches& batches) -> LookupBatch* {
    for (const Batch& batch : batches) {
      if (batch->rows_present()) return batch.get();
    }
    return nullptr;
  };
  LookupBatch* const small = first(small_);
  LookupBatch* const large = first(large_);
  if (small == nullptr || large == nullptr) return small == nullptr ? large : small;
  return large_next_ ? large : small;
}

BatchQueue::Batch BatchQueue::Gathered(LookupBatch& batch) {
  for (Batches* batches : {&small_, &large_}) {
    for (auto at = batches->begin(); at != batches->end(); ++at) {
      if (at->get() != &batch) continue;
      large_next_ = batches == &small_;
      if (!batch.done()) return nullptr;
      Batch done = std::move(*at);
      batches->erase(at);
      return done;
    }
  }
  ENGRAM_CHECK(false, "a message was gathered of a batch that does not wait");
  return nullptr;
}

BatchQueue::Batch BatchQueue::TakeOut(uint64_t batch_id) {
  for (Batches* batches : {&small_, &large_}) {
    for (auto at = batches->begin(); at != batches->end(); ++at) {
      if ((*at)->batch_id() != batch_id) continue;
      Batch batch = std::move(*at);
      batches->erase(at);
      return batch;
    }
  }
  return nullptr;
}

std::vector<BatchQueue::Batch> BatchQueue::TakeExpired(MonotonicTime now) {
  std::vector<Batch> expired;
  for (Batches* batches : {&small_, &large_}) {
    for (auto at = batches->begin(); at != batches->end();) {
      if (now < (*at)->deadline()) {
        ++at;
        continue;
      }
      expired.push_back(std::move(*at));
      at = batches->erase(at);
    }
  }
  return expired;
}

std::vector<BatchQueue::Batch> BatchQueue::TakeAll() {
  std::vector<Batch> all;
  for (Batches* batches : {&small_, &large_}) {
    for (Batch& batch : *batches) all.push_back(std::move(batch));
    batches->clear();
  }
  return all;
}

}  // namespace engram
