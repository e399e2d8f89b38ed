// Memory for the ids of batches under way: a part that is each call's own, and a pool they share.
//
// Small batches fit what is their call's own, so no other client, however many ids it has under
// way and however slowly it takes its answers, can have them turned away. What goes beyond comes
// from the pool, first come, first served. IdMemoryPool is thread-safe, an IdMemoryQuota is its
// call's.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/status/status.h"

namespace engram {

class IdMemoryPool {
 public:
  explicit IdMemoryPool(uint64_t bytes) : bytes_(bytes) {}

  // False, and nothing taken, when there is not so much left.
  bool Take(uint64_t bytes);
  void Give(uint64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  bool HalfUsed() const { return used_.load(std::memory_order_relaxed) > bytes_ / 2; }

 private:
  const uint64_t bytes_;
  std::atomic<uint64_t> used_{0};
};

class IdMemoryQuota {
 public:
  // `own_bytes` need not come from the pool, which outlives it.
  IdMemoryQuota(IdMemoryPool* pool, uint64_t own_bytes) : pool_(pool), own_bytes_(own_bytes) {}
  ~IdMemoryQuota() { Give(bytes_); }
  IdMemoryQuota(const IdMemoryQuota&) = delete;
  IdMemoryQuota& operator=(const IdMemoryQuota&) = delete;

  // RESOURCE_EXHAUSTED, and nothing taken, when it goes beyond what is its own and the pool has too
  // little.
  absl::Status Take(uint64_t bytes);
  void Give(uint64_t bytes);
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t Beyond(uint64_t bytes) const { return bytes > own_bytes_ ? bytes - own_bytes_ : 0; }

  IdMemoryPool* const pool_;
  const uint64_t own_bytes_;
  uint64_t bytes_ = 0;
};

}  // namespace engram
