// Memory for the ids of batches under way: a part that is each call's own, and a pool they share.
//
// Small batches fit what is their call's own, so no other client, however many ids it has under
// way and however slowly it takes its answers, can have them turned away. What goes beyond comes
// from the pool, first come, first served; a connection that has some of it may have as much as is
// left free (places.h). IdMemoryPool is thread-safe, an IdMemoryQuota is its call's.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "memstore/base/mutex.h"

namespace engram {

class IdMemoryPool {
 public:
  explicit IdMemoryPool(uint64_t bytes) : bytes_(bytes) {}

  // False, and nothing taken, when there is not so much left, or it is more than the connection's
  // share.
  bool Take(uint64_t connection, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Give(uint64_t connection, uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // 0..1.
  double UsedPart() const {
    return static_cast<double>(used_.load(std::memory_order_relaxed)) / static_cast<double>(bytes_);
  }
  bool HalfUsed() const { return used_.load(std::memory_order_relaxed) > bytes_ / 2; }

 private:
  const uint64_t bytes_;
  Mutex mutex_;
  absl::flat_hash_map<uint64_t, uint64_t> held_ ABSL_GUARDED_BY(mutex_);  // by connection
  std::atomic<uint64_t> used_{0};  // written by who has the mutex
};

class IdMemoryQuota {
 public:
  // `own_bytes` need not come from the pool, which outlives it.
  IdMemoryQuota(IdMemoryPool* pool, uint64_t own_bytes) : pool_(pool), own_bytes_(own_bytes) {}
  ~IdMemoryQuota() { Give(bytes_); }
  IdMemoryQuota(const IdMemoryQuota&) = delete;
  IdMemoryQuota& operator=(const IdMemoryQuota&) = delete;

  // Whose share of the pool it takes; before anything is taken.
  void SetConnection(uint64_t connection) { connection_ = connection; }
  // RESOURCE_EXHAUSTED, and nothing taken, when it goes beyond what is its own and the pool has too
  // little.
  absl::Status Take(uint64_t bytes);
  void Give(uint64_t bytes);
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t Beyond(uint64_t bytes) const { return bytes > own_bytes_ ? bytes - own_bytes_ : 0; }

  IdMemoryPool* const pool_;
  const uint64_t own_bytes_;
  uint64_t connection_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace engram
