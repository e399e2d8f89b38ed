// Places that connections share - a stream's, a unary call's - and who gives way when all are
// taken.
//
// A connection may take as many as are left free. So one alone has half of them at most, and where
// n take all that they can each leaves an n-th part to whoever comes next: it takes more
// connections than there are places to keep one out. Then the place that serves its client least is
// given up for the next one: of those that wait for their clients one that never served any, else
// the one whose client took something longest ago, and at least `min_idle`; each time of the
// connection that holds most. Addresses count for nothing: both sides may come from one.
//
// Thread-safe: calls of all loops take places here. Cost: a short lock a call; all places are
// looked at where one has to give way.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/container/node_hash_map.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

class Places {
 public:
  // One place, a part of whatever holds it. Take and Leave are its owner's; the rest is for any
  // thread.
  class Place {
   public:
    Place() = default;
    ~Place() { Leave(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    // Once it returns nobody is told to give way any more.
    void Leave() {
      if (places_ != nullptr) places_->Remove(*this);
    }
    // Its client has taken what it asked for.
    void Served(MonotonicTime now) {
      served_ns_.store(now.nanoseconds(), std::memory_order_relaxed);
    }
    // Whether its client has to do something next; until it is told: it has. One that waits for the
    // server does not give way.
    void WaitsForClient(bool waits) { waits_for_client_.store(waits, std::memory_order_relaxed); }

   private:
    friend class Places;
    Places* places_ = nullptr;
    uint64_t connection_ = 0;
    MonotonicTime since_;
    std::function<void()> give_way_;
    uint32_t* held_ = nullptr;  // by its connection; null once it was told to give way
    size_t at_ = 0;             // in taken_
    std::atomic<int64_t> served_ns_{0};
    std::atomic<bool> waits_for_client_{true};
  };

  enum class Answer : uint8_t {
    kTaken,
    kShare,  // the connection holds as many as it may
    kFull,   // all are taken, and nobody can be asked to give way
  };

  Places(uint32_t places, absl::Duration min_idle) : places_(places), min_idle_(min_idle) {}
  Places(const Places&) = delete;
  Places& operator=(const Places&) = delete;

  // `give_way` is called once at most, from any thread, in the middle of another's Take: it must be
  // short, wait for nothing, and call nothing here. The place counts as free from then on.
  Answer Take(uint64_t connection, MonotonicTime now, std::function<void()> give_way, Place* place)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Has the one that serves its client least give way, for the sake of memory; false when there is
  // none that can. `even_served`: else none that ever served its client.
  bool EndOne(MonotonicTime now, bool even_served) ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t places() const { return places_; }
  uint32_t taken() const { return count_.load(std::memory_order_relaxed); }

 private:
  void Remove(Place& place) ABSL_LOCKS_EXCLUDED(mutex_);
  void TakeOut(Place& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void GiveWay(Place& place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Null: none can give way.
  Place* Least(MonotonicTime now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint32_t places_;
  const absl::Duration min_idle_;
  mutable Mutex mutex_;
  std::vector<Place*> taken_ ABSL_GUARDED_BY(mutex_);
  absl::node_hash_map<uint64_t, uint32_t> held_ ABSL_GUARDED_BY(mutex_);  // by connection
  std::atomic<uint32_t> count_{0};  // of taken_, for who only wants to know
};

}  // namespace engram
