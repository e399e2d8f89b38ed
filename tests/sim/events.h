// What is to happen, by simulated time.
//
// Of events of one moment the one that was added first comes first, so that a run is the same each
// time. Belongs to one thread; warm it allocates nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "memstore/base/clock.h"

namespace engram::sim {

enum class EventKind : uint8_t {
  kSubmit,      // worker
  kTick,        // worker, session
  kArrive,      // flight: the request is at its store
  kAnswer,      // flight: its store has gathered the rows
  kFirstRows,   // flight: the first message of the reply is at its worker
  kLastRows,    // flight: the last one, and the status
  kEndCancel,   // flight: the worker's own end of a cancelled one
  kTellCancel,  // flight: its store hears that it is not wanted
  kDrained,     // flight
  kBroken,      // worker, store, connection
  kSubscribe,   // worker, store, tries
  kHeard,       // worker, store, life: what the store says of itself
  kLease,       // worker, store, sets: which the worker uses
  kMapDue,      // worker
  kDiscover,    // worker
  kFault,       //
  kFaultEnd,    // kind, store, life
  kRollout,     //
};

struct Event {
  int64_t at_ns = 0;
  uint64_t order = 0;
  EventKind kind = EventKind::kSubmit;
  uint32_t a = 0, b = 0, c = 0;
};

class EventQueue {
 public:
  void Add(MonotonicTime at, EventKind kind, uint32_t a = 0, uint32_t b = 0, uint32_t c = 0) {
    heap_.push_back({at.nanoseconds(), ++added_, kind, a, b, c});
    std::push_heap(heap_.begin(), heap_.end(), IsLater);
  }
  Event Take() {
    std::pop_heap(heap_.begin(), heap_.end(), IsLater);
    const Event event = heap_.back();
    heap_.pop_back();
    return event;
  }
  bool empty() const { return heap_.empty(); }

 private:
  static bool IsLater(const Event& a, const Event& b) {
    return a.at_ns != b.at_ns ? a.at_ns > b.at_ns : a.order > b.order;
  }

  std::vector<Event> heap_;
  uint64_t added_ = 0;
};

}  // namespace engram::sim
