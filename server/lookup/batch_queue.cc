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
  return sum(small_) + std::min(sum(large_), (small_.size() + 1) * message_bytes_);
}

BatchQueue::Batches& BatchQueue::NextKind() {
  if (small_.empty() || large_.empty()) return small_.empty() ? large_ : small_;
  return large_next_ ? large_ : small_;
}

LookupBatch* BatchQueue::Next() { return empty() ? nullptr : NextKind().front().get(); }

BatchQueue::Batch BatchQueue::Gathered() {
  ENGRAM_CHECK(!empty(), "a message was gathered of no batch");
  Batches& kind = NextKind();
  large_next_ = &kind == &small_;
  if (!kind.front()->done()) return nullptr;
  Batch done = std::move(kind.front());
  kind.pop_front();
  return done;
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
