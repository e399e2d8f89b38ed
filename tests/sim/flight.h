// One request on its way: to a store, through it, and back.
//
// A flight lives until its worker has told the router of its end and no event of it is left.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/cluster/router_types.h"

namespace engram::sim {

inline constexpr uint32_t kLayers = 2;

struct Flight {
  uint32_t serial = 0;  // of the run; written into each row that lands
  uint32_t worker = 0;
  uint32_t session = 0;
  uint32_t store = 0;       // its place
  uint32_t life = 0;        // of the store, as the worker knows it
  uint32_t connection = 0;  // of the worker to the store
  AttemptId attempt = kNoAttempt;
  BatchId batch = 0;
  uint32_t record = 0;  // of the batch, in its session
  uint32_t record_use = 0;
  uint32_t part = 0;
  LandingWay way = LandingWay::kCopied;
  bool by_device = false;  // the store itself writes the rows
  uint32_t set = 0;
  uint32_t answered_set = 0;  // that the store took the rows from
  uint32_t layers = 0;        // bits: those it was sent for
  uint64_t bytes = 0;
  MonotonicTime deadline;
  MonotonicTime sent_at;
  MonotonicTime queued_at;
  absl::StatusCode code = absl::StatusCode::kOk;  // of the reply
  absl::Duration retry_after;
  uint32_t tries = 0;  // by the bug kSendsAgain
  bool is_cancelled = false;
  bool has_ended = false;  // the router knows
  bool has_first = false;  // its first message is in place
  bool is_beside = false;  // sent beside the router, by a planted bug
  bool in_store = false;
  bool has_slab = false;
  uint32_t events = 0;  // that name it
};

class FlightPool {
 public:
  Flight& operator[](uint32_t at) { return flights_[at]; }

  uint32_t Open() {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(flights_.size()));
      flights_.emplace_back();
    }
    const uint32_t at = free_.back();
    free_.pop_back();
    flights_[at] = Flight();
    flights_[at].serial = ++serial_;
    ++open_;
    return at;
  }
  // True where it is gone.
  bool CloseIfDone(uint32_t at) {
    const Flight& flight = flights_[at];
    if (!flight.has_ended || flight.events > 0 || flight.in_store || flight.has_slab) return false;
    free_.push_back(at);
    --open_;
    return true;
  }
  uint32_t open() const { return open_; }

 private:
  std::deque<Flight> flights_;
  std::vector<uint32_t> free_;
  uint32_t serial_ = 0;
  uint32_t open_ = 0;
};

}  // namespace engram::sim
