// Batches of one client of which every row is checked: as fast as answers come (a closed loop), or
// each when it is due, whether or not earlier ones came back (an open loop).
//
// Latency counts from when a batch was due until its ticket ended, so that a pause makes all late
// that were due in it. The caller's thread sends, one waits for what was sent, one checks rows and
// gives buffers back. Batches are cut from a real token stream and repeat after kBatches; a landing
// buffer is overwritten before it is used again, so that rows of the past prove nothing.
//
// Of synthetic table sets alone. Not thread-safe: one call at a time. Memory: kBatches expected
// batches, and kMostOpen landing buffers where so many are open at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram::integration {

struct LoadResult {
  uint64_t batches = 0;  // that were due
  uint64_t failed = 0;
  uint64_t wrong = 0;                   // landed, with bytes that are not its rows'
  std::string first_failure;            // and how late it was due
  std::vector<absl::Duration> latency;  // ascending, of those that landed

  // That share of the latencies is no greater; zero of none.
  absl::Duration Quantile(double share) const;
};

class CheckedLoad final : private CompletionSink {
 public:
  // Different batches, which are sent in turn.
  static constexpr size_t kBatches = 64;
  // More are not sent: below what a transport allows (kMaxOpenTickets).
  static constexpr size_t kMostOpen = 512;

  // `tokens`: at least kBatches * batch_tokens. The client outlives this.
  CheckedLoad(Client& client, absl::Span<const int32_t> tokens, uint32_t batch_tokens);
  ~CheckedLoad();

  // Batches a second with so many open at a time, checks included.
  double Capacity(size_t at_once, absl::Duration time, LoadResult* result);
  // Batches at random times, so many a second on average. `deadline`: since they are due.
  LoadResult Run(double batches_per_s, absl::Duration time, absl::Duration deadline, uint64_t seed);

 private:
  struct Batch {
    std::vector<std::vector<RowId>> ids;  // a layer each
    std::string rows;                     // as they have to land
  };
  struct Slot {
    size_t number = 0;  // of the slot
    const Batch* batch = nullptr;
    std::vector<std::byte> rows;
    MonotonicTime due;
    MonotonicTime ended;
    Ticket ticket;
    absl::Status status;
  };

  // Null: all that may be open are.
  Slot* TakeFree() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for one where there is none.
  Slot* Take();
  void Send(Slot* slot, MonotonicTime due, MonotonicTime deadline);
  void Settle();
  void WaitInTurn();
  void CheckInTurn();
  void Check(Slot& slot);
  LoadResult TakeResult();

  void OnLayerLanded(uint64_t, size_t) override {}
  void OnTicketEnded(uint64_t tag, const absl::Status& status) override;

  Client& client_;
  std::vector<Batch> batches_;
  uint64_t sent_count_ = 0;

  Mutex mutex_;
  CondVar changed_;
  size_t most_open_ ABSL_GUARDED_BY(mutex_) = kMostOpen;
  std::vector<std::unique_ptr<Slot>> slots_ ABSL_GUARDED_BY(mutex_);
  std::vector<Slot*> free_ ABSL_GUARDED_BY(mutex_);
  std::deque<Slot*> sent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Slot*> ended_ ABSL_GUARDED_BY(mutex_);
  LoadResult result_ ABSL_GUARDED_BY(mutex_);
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread waiter_, checker_;
};

}  // namespace engram::integration
