// Whose turn it is on a loop: calls that have rows to gather take turns, fairly between clients,
// and a batch that can't be answered in time is turned away when it comes.
//
// Work is counted in bytes of rows, and for each message that they fill kMessageBytes more. A turn
// is one message's work. Of the clients (connections) that have a call that is ready, the one that
// has had the least goes next (start-time fair queueing: one that comes back after a pause is not
// behind, and has nothing saved up either); its calls take turns among themselves. A client whose
// calls have all gone is known until the others have had as much: else one call after the other,
// each alone, would be first every time. What a batch would have to wait is estimated from how long
// work has taken lately: a client that has little under way waits for little of the others',
// whatever they have queued. It may be two thirds of the batch's time (kMargin).
//
// Belongs to one thread. A turn costs a few hundred nanoseconds beside its work, an estimate a few
// for each client that is ready.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "server/base/limits.h"

namespace engram {

class FairScheduler {
 public:
  struct Client;

  // What takes turns: made a part of it by Join, until it is destroyed.
  class Call {
   public:
    // Does one message's work; calls Ready again when there is more.
    virtual void TakeTurn() = 0;

   protected:
    Call() = default;
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    friend class FairScheduler;
    FairScheduler* scheduler_ = nullptr;
    Client* client_ = nullptr;
    uint64_t queued_ = 0;  // work of its own
    bool ready_ = false;
  };

  // `clock` outlives it.
  explicit FairScheduler(const Clock& clock);
  ~FairScheduler();

  // `client` names the connection, or whoever is to have one share.
  void Join(Call& call, const std::string& client);

  // What `row_bytes` that are to be gathered count for. What a turn does of them is the difference
  // between before and after it.
  static uint64_t Work(uint64_t row_bytes) {
    return row_bytes + (row_bytes + kStreamMessageBytes - 1) / kStreamMessageBytes * kMessageBytes;
  }
  // `ahead`: what of the call's own goes before it. RESOURCE_EXHAUSTED: by the estimate `work`
  // would not be answered when `left` has passed. DEADLINE_EXCEEDED: nothing was before it, and it
  // had passed all the same. Else it counts as queued.
  absl::Status Admit(Call& call, uint64_t ahead, uint64_t work, absl::Duration left);
  // Part of what was admitted is done, now, which it returns; or dropped, undone.
  MonotonicTime Done(Call& call, uint64_t work);
  void Drop(Call& call, uint64_t work);

  void Ready(Call& call);
  bool Empty() const { return ready_.empty(); }
  // Clients that it knows, with a call or without.
  size_t clients() const { return clients_.size(); }
  // The next turn. Not when Empty.
  void RunNext();

  // Until `work` of this call's, behind `ahead` of its own, would be answered; zero where nothing
  // is queued by anybody.
  absl::Duration Wait(const Call& call, uint64_t ahead, uint64_t work) const;

 private:
  // A message's fixed cost - framing, a system call, an event - in row bytes gathered meanwhile.
  static constexpr uint64_t kMessageBytes = 16 << 10;
  // Clients without a call that are known still: as many as there may be streams.
  static constexpr size_t kMaxGone = 1024;

  void Leave(Call& call);
  void ForgetGone();
  void Unready(Call& call);

  const Clock& clock_;
  absl::flat_hash_map<std::string, std::unique_ptr<Client>> clients_;
  // Those without a call, by the service that they have received.
  absl::btree_set<std::pair<uint64_t, Client*>> gone_;
  std::vector<Client*> ready_;  // those with a call that is ready
  uint64_t virtual_time_ = 0;   // service received by the client of the last turn before it
  double ns_per_byte_;          // of the loop while it has work
  MonotonicTime busy_since_;
};

}  // namespace engram
