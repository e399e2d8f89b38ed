// The memory that replies are gathered into: a fixed number of slabs of one size, reused for ever.
//
// A slab is taken, filled, and handed to gRPC inside a slice; whoever lets go of the last reference
// gives it back, from any thread. Together they bound the replies under way. A connection that
// holds some may have as many as are left free (places.h), so those whose clients take nothing
// leave some to others. Memory is taken from the system when a slab is first used. Thread-safe; a
// short lock for each take and give, none for a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "memstore/base/mutex.h"
#include "memstore/store/arena.h"

namespace engram {

class ReplySlabs : public std::enable_shared_from_this<ReplySlabs> {
 public:
  // RESOURCE_EXHAUSTED when the address space is refused.
  static absl::StatusOr<std::shared_ptr<ReplySlabs>> Create(uint32_t slabs, uint64_t slab_bytes);

  // One slab; gives it back when destroyed, and keeps the pool alive until then.
  class Slab {
   public:
    Slab() = default;
    Slab(Slab&& other) noexcept = default;
    Slab& operator=(Slab&& other) noexcept {
      Reset();
      pool_ = std::move(other.pool_);
      connection_ = other.connection_;
      index_ = other.index_;
      return *this;
    }
    ~Slab() { Reset(); }

    explicit operator bool() const { return pool_ != nullptr; }
    absl::Span<std::byte> memory() const { return pool_->Memory(index_); }
    void Reset();
    // For an owner that takes a pointer and a function: calls GiveBack(lent) once, from any thread,
    // in place of this slab's destruction. Allocates nothing.
    void* Lend() &&;
    static void GiveBack(void* lent);

   private:
    friend class ReplySlabs;
    Slab(std::shared_ptr<ReplySlabs> pool, uint64_t connection, uint32_t index)
        : pool_(std::move(pool)), connection_(connection), index_(index) {}
    std::shared_ptr<ReplySlabs> pool_;
    uint64_t connection_ = 0;
    uint32_t index_ = 0;
  };

  // Appends `count` slabs for a connection to `out`, or none, where there are too few or it has its
  // share: then false, and `on_free`, unless it is empty, is called once, from any thread, as soon
  // as slabs come back; it must be short and must not call the pool.
  bool Take(uint64_t connection, uint32_t count, const std::function<void()>& on_free,
            std::vector<Slab>* out);
  uint32_t HeldBy(uint64_t connection) const;

  uint64_t slab_bytes() const { return slab_bytes_; }
  uint32_t slabs() const { return slabs_; }
  uint32_t FreeSlabs() const;

 private:
  ReplySlabs(Arena arena, uint32_t slabs, uint64_t slab_bytes);
  absl::Span<std::byte> Memory(uint32_t index) const {
    return {arena_.data() + index * slab_bytes_, slab_bytes_};
  }
  void Give(uint64_t connection, uint32_t index);

  // What a lent slab's pointer points to.
  struct Lent {
    std::shared_ptr<ReplySlabs> pool;  // null when it is not lent
    uint64_t connection = 0;
    uint32_t index = 0;
  };

  const Arena arena_;
  const uint32_t slabs_;
  const uint64_t slab_bytes_;
  std::vector<Lent> lent_;  // one a slab, each used by whoever has the slab
  mutable Mutex mutex_;
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mutex_);  // last in, first out: warm
  absl::flat_hash_map<uint64_t, uint32_t> held_ ABSL_GUARDED_BY(mutex_);  // by connection
  std::vector<std::function<void()>> wake_next_ ABSL_GUARDED_BY(mutex_);
};

// How long a client may leave a message untaken while slabs are short, whose connection holds so
// many of them: the less the more it holds.
absl::Duration MostWriteStall(uint32_t slabs_held);

}  // namespace engram
