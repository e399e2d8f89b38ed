// The owner's side of one ring (memstore/shm/ring.h): a thread that gathers the rows a client asks
// for, piece after piece.
//
// The client may write anything into the region at any time: a piece's header and ids are copied
// out first, each read once, then checked; a bad piece gets an error, a bad index ends the ring.
// What the client can harm is its own rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "memstore/addressing/scheme.h"
#include "memstore/base/clock.h"
#include "memstore/os/adaptive_spin.h"
#include "memstore/os/memfd.h"
#include "memstore/shm/ring.h"
#include "memstore/store/table_set_registry.h"
#include "server/metrics/metrics.h"

namespace engram {

// How many rings there are.
using RingCount = std::atomic<uint32_t>;

class RingWorker {
 public:
  // Fills in the region's header and starts the thread "engram-ring/NUMBER". `count` and `clock`
  // outlive it.
  // `on_broken` is called from the thread when the client broke the rules, at most once.
  // RESOURCE_EXHAUSTED when no thread can be started.
  static absl::StatusOr<std::unique_ptr<RingWorker>> Start(Mapping region, ServedSet served,
                                                           uint32_t number, RingCount* count,
                                                           std::shared_ptr<ThreadMetrics> metrics,
                                                           std::function<void()> on_broken,
                                                           const Clock* clock);
  // Tells the client UNAVAILABLE, and joins the thread: at the latest after the piece under way.
  ~RingWorker();
  RingWorker(const RingWorker&) = delete;
  RingWorker& operator=(const RingWorker&) = delete;

 private:
  RingWorker(Mapping region, ServedSet served, RingCount* count,
             std::shared_ptr<ThreadMetrics> metrics, std::function<void()> on_broken,
             const Clock* clock);
  void Run();
  void WaitForWork();
  absl::StatusOr<const LoadedLayer*> CopyOut(uint32_t piece);
  void ServeCounted(uint32_t piece);
  absl::StatusOr<const LoadedLayer*> Serve(uint32_t piece);
  void Complete(uint32_t piece, const absl::Status& status);
  void Close(absl::StatusCode code);

  const Mapping region_;
  const RingView ring_;
  const ServedSet served_;
  RingCount* const count_;
  const std::shared_ptr<ThreadMetrics> metrics_;
  const std::function<void()> on_broken_;
  const Clock* const clock_;
  std::atomic<bool> stop_{false};

  // The thread's own.
  AdaptiveSpin spin_;
  uint32_t completed_ = 0;
  uint64_t batch_ = 0;  // the one that was let begin last
  bool batch_began_ = false;
  std::vector<RowId> ids_;  // a piece's, copied out
  std::thread thread_;
};

}  // namespace engram
