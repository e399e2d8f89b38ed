// The memory that replies are gathered into: a fixed number of slabs of one size, reused for ever.
//
// A slab is taken, filled, and handed to gRPC inside a slice; whoever lets go of the last reference
// gives it back, from any thread. Together they bound the replies under way. Memory is taken from
// the system when a slab is first used. Thread-safe; a short lock for each take and give, none for
// a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

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
    Slab(std::shared_ptr<ReplySlabs> pool, uint32_t index)
        : pool_(std::move(pool)), index_(index) {}
    std::shared_ptr<ReplySlabs> pool_;
    uint32_t index_ = 0;
  };

  // Appends `count` slabs to `out`, or none: then false, and `on_free`, unless it is empty, is
  // called once, from any thread, as soon as slabs come back; it must be short and must not call
  // the pool.
  bool Take(uint32_t count, const std::function<void()>& on_free, std::vector<Slab>* out);

  uint64_t slab_bytes() const { return slab_bytes_; }
  uint32_t slabs() const { return slabs_; }
  uint32_t FreeSlabs() const;

 private:
  ReplySlabs(Arena arena, uint32_t slabs, uint64_t slab_bytes);
  absl::Span<std::byte> Memory(uint32_t index) const {
    return {arena_.data() + index * slab_bytes_, slab_bytes_};
  }
  void Give(uint32_t index);

  // What a lent slab's pointer points to.
  struct Lent {
    std::shared_ptr<ReplySlabs> pool;  // null when it is not lent
    uint32_t index = 0;
  };

  const Arena arena_;
  const uint32_t slabs_;
  const uint64_t slab_bytes_;
  std::vector<Lent> lent_;  // one a slab, each used by whoever has the slab
  mutable Mutex mutex_;
  std::vector<uint32_t> free_ ABSL_GUARDED_BY(mutex_);  // last in, first out: warm
  std::vector<std::function<void()>> wake_next_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
