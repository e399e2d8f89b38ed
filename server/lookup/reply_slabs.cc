#include "server/lookup/reply_slabs.h"

#include <algorithm>
#include <utility>

#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"

namespace engram {

absl::StatusOr<std::shared_ptr<ReplySlabs>> ReplySlabs::Create(uint32_t slabs,
                                                               uint64_t slab_bytes) {
  ArenaOptions options;
  options.try_hugetlb = false;  // those are reserved for tables
  ENGRAM_ASSIGN_OR_RETURN(Arena arena, Arena::Map(slabs * slab_bytes, options));
  return std::shared_ptr<ReplySlabs>(new ReplySlabs(std::move(arena), slabs, slab_bytes));
}

ReplySlabs::ReplySlabs(Arena arena, uint32_t slabs, uint64_t slab_bytes)
    : arena_(std::move(arena)), slabs_(slabs), slab_bytes_(slab_bytes) {
  free_.reserve(slabs);
  for (uint32_t i = slabs; i > 0; --i) free_.push_back(i - 1);
  lent_.resize(slabs);
}

bool ReplySlabs::Take(uint64_t connection, uint32_t count, const std::function<void()>& on_free,
                      std::vector<Slab>* out) {
  MutexLock lock(mutex_);
  const auto own = held_.find(connection);
  const uint32_t held = own == held_.end() ? 0 : own->second;
  if (free_.size() < count || (held > 0 && free_.size() < held + count)) {
    if (on_free) wake_next_.push_back(on_free);
    return false;
  }
  for (uint32_t i = 0; i < count; ++i) {
    out->push_back(Slab(shared_from_this(), connection, free_.back()));
    free_.pop_back();
  }
  held_[connection] = held + count;
  return true;
}

void ReplySlabs::Give(uint64_t connection, uint32_t index) {
  std::vector<std::function<void()>> wake;
  {
    MutexLock lock(mutex_);
    ENGRAM_CHECK(free_.size() < slabs_, "a slab came back twice");
    free_.push_back(index);
    const auto own = held_.find(connection);
    if (--own->second == 0) held_.erase(own);
    wake.swap(wake_next_);
  }
  for (const std::function<void()>& one : wake) one();
}

uint32_t ReplySlabs::HeldBy(uint64_t connection) const {
  MutexLock lock(mutex_);
  const auto own = held_.find(connection);
  return own == held_.end() ? 0 : own->second;
}

uint32_t ReplySlabs::FreeSlabs() const {
  MutexLock lock(mutex_);
  return static_cast<uint32_t>(free_.size());
}

void ReplySlabs::Slab::Reset() {
  // The pool may end with this reference.
  if (const std::shared_ptr<ReplySlabs> pool = std::exchange(pool_, nullptr)) {
    pool->Give(connection_, index_);
  }
}

void* ReplySlabs::Slab::Lend() && {
  Lent& lent = pool_->lent_[index_];
  ENGRAM_CHECK(lent.pool == nullptr, "a slab was lent twice");
  lent.connection = connection_;
  lent.index = index_;
  lent.pool = std::move(pool_);
  return &lent;
}

void ReplySlabs::Slab::GiveBack(void* lent) {
  auto* const whose = static_cast<Lent*>(lent);
  const uint64_t connection = whose->connection;
  const uint32_t index = whose->index;
  Slab(std::move(whose->pool), connection, index).Reset();
}

absl::Duration MostWriteStall(uint32_t slabs_held) {
  return std::max(absl::FromChrono(kLeastWriteStall),
                  absl::FromChrono(kMaxWriteStall) / (1 + slabs_held / kSlabsOfLongStall));
}

}  // namespace engram
