#include "server/lookup/id_memory.h"

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {

bool IdMemoryPool::Take(uint64_t connection, uint64_t bytes) {
  if (bytes == 0) return true;
  MutexLock lock(mutex_);
  const uint64_t used = used_.load(std::memory_order_relaxed);
  const auto own = held_.find(connection);
  const uint64_t held = own == held_.end() ? 0 : own->second;
  if (bytes > bytes_ - used || (held > 0 && held + bytes > bytes_ - used)) return false;
  held_[connection] = held + bytes;
  used_.store(used + bytes, std::memory_order_relaxed);
  return true;
}

void IdMemoryPool::Give(uint64_t connection, uint64_t bytes) {
  if (bytes == 0) return;
  MutexLock lock(mutex_);
  const auto own = held_.find(connection);
  ENGRAM_CHECK(own != held_.end() && bytes <= own->second,
               "more memory for ids was given back than the connection had");
  own->second -= bytes;
  if (own->second == 0) held_.erase(own);
  used_.store(used_.load(std::memory_order_relaxed) - bytes, std::memory_order_relaxed);
}

absl::Status IdMemoryQuota::Take(uint64_t bytes) {
  if (!pool_->Take(connection_, Beyond(bytes_ + bytes) - Beyond(bytes_))) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engramd has no room for ", bytes,
                     " more bytes of row ids, so many batches are under way: ask again"));
  }
  bytes_ += bytes;
  return absl::OkStatus();
}

void IdMemoryQuota::Give(uint64_t bytes) {
  ENGRAM_CHECK(bytes <= bytes_, "more memory for ids was given back than was taken");
  pool_->Give(connection_, Beyond(bytes_) - Beyond(bytes_ - bytes));
  bytes_ -= bytes;
}

}  // namespace engram
