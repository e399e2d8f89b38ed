#include "server/lookup/id_memory.h"

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {

bool IdMemoryPool::Take(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > bytes_ - used) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  return true;
}

absl::Status IdMemoryQuota::Take(uint64_t bytes) {
  if (!pool_->Take(Beyond(bytes_ + bytes) - Beyond(bytes_))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engramd has no room for ", bytes,
                     " more bytes of row ids, so many batches are under way: ask again"));
  }
  bytes_ += bytes;
  return absl::OkStatus();
}

void IdMemoryQuota::Give(uint64_t bytes) {
  ENGRAM_CHECK(bytes <= bytes_, "more memory for ids was given back than was taken");
  pool_->Give(Beyond(bytes_) - Beyond(bytes_ - bytes));
  bytes_ -= bytes;
}

}  // namespace engram
