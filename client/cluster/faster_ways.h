// Opens faster ways to stores than gRPC, and closes them, where nobody waits for it.
//
// Attaching takes round trips, and mapping tables longer: a thread of its own ("engram-ways") does
// it, one store after the other, and hands over what there is. What broke, or could not be had for
// a reason that may pass, is tried again later, each time after a longer while. A transport that is
// given up is closed by this thread as well, once nobody else holds it: closing an RDMA connection
// takes time, too.
//
// It has an entry a store that is wanted, and a transport a store that is closing: no more than the
// map has stores. Thread-safe, but for the destructor, which returns once what is being opened at
// that moment has been, or could not be: some seconds where a store does not answer.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/ticketed_transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/cluster/router_types.h"

namespace engram {

// A way to a store beside gRPC.
struct FasterWay {
  std::shared_ptr<TicketedTransport> transport = nullptr;  // null: there is none
  // kWritten: rows come into the caller's memory without anybody being asked, until the transport
  // has reaped the ticket. kCopied: within Submit, by the thread that calls it.
  LandingWay landing = LandingWay::kCopied;
  // Whether it lands in any memory and by lists of places; else in what is registered with it.
  bool anywhere = true;
  std::string why = {};   // not a better one; empty for the best
  bool may_come = false;  // there is none now, and there may be one later
};

class FasterWays {
 public:
  // Blocks, for some seconds at most; called by the thread alone.
  using Open = std::function<FasterWay(const std::string& address)>;
  // By the thread, without a lock: it may call back.
  using OnOpened = std::function<void(StoreId store, const std::string& address, FasterWay way)>;

  // After a way broke or could not be had: an owner that restarts is back by then.
  static constexpr absl::Duration kFirstPause = absl::Seconds(1);
  // Doubled up to this: trying costs a dead store a call in as long.
  static constexpr absl::Duration kLongestPause = absl::Seconds(30);
  // Pauses begin anew after a way that held for so many of the last: a store that is silent now and
  // then is away from its way for a fifth of the time at most.
  static constexpr int kHeld = 4;

  // RESOURCE_EXHAUSTED: there is no thread. `clock` outlives it.
  static absl::StatusOr<std::unique_ptr<FasterWays>> Start(Open open, OnOpened on_opened,
                                                           Clock& clock);
  ~FasterWays();

  // Has a way to the store opened: at once, or, where one was opened before, after a pause. No
  // effect on a store that is wanted already.
  void Want(StoreId store, std::string address);
  void Forget(StoreId store);
  void Close(std::shared_ptr<TicketedTransport> transport);

 private:
  struct Wanted {
    std::string address;
    absl::Duration pause = absl::ZeroDuration();
    MonotonicTime at = MonotonicTime::Infinite();  // when it is opened; infinite: it is not
    MonotonicTime opened_at;
  };

  FasterWays(Open open, OnOpened on_opened, Clock& clock)
      : open_(std::move(open)), on_opened_(std::move(on_opened)), clock_(clock) {}
  void Run();
  void OpenDue(StoreId store) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CloseUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Lengthen(absl::Duration* pause);

  const Open open_;
  const OnOpened on_opened_;
  Clock& clock_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<StoreId, Wanted> wanted_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<TicketedTransport>> closing_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace engram
