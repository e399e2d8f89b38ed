// The thread that serves the RDMA clients of one device ("engram-rdma/N").
//
// It polls every client's queue in turn; when nothing came for a while (up to `spin`, where looking
// does any good: adaptive_spin.h) it arms the queues and sleeps until one of them, or a newcomer,
// wakes it. It runs on the cores of the device's NUMA node where the system says which that is.
// Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/os/adaptive_spin.h"
#include "memstore/os/posix_file.h"
#include "memstore/rdma/verbs.h"
#include "server/rdma/session.h"

namespace engram {

class RdmaPoller {
 public:
  // RESOURCE_EXHAUSTED: no thread or descriptor.
  static absl::StatusOr<std::unique_ptr<RdmaPoller>> Start(std::shared_ptr<const RdmaDevice> device,
                                                           uint32_t number, absl::Duration spin,
                                                           const Clock& clock);
  ~RdmaPoller();  // lets go of every client
  RdmaPoller(const RdmaPoller&) = delete;
  RdmaPoller& operator=(const RdmaPoller&) = delete;

  const std::shared_ptr<const RdmaDevice>& device() const { return device_; }
  // For the clients' queues.
  const std::shared_ptr<RdmaChannel>& channel() const { return channel_; }

  void Add(std::shared_ptr<RdmaSession> client);
  // The thread lets go of it soon, and whoever holds the last reference frees it.
  void Remove(const std::shared_ptr<RdmaSession>& client);

 private:
  RdmaPoller(std::shared_ptr<const RdmaDevice> device, absl::Duration spin, const Clock& clock)
      : device_(std::move(device)), spin_(spin, clock) {}
  void Run();
  void TakeMail();
  bool AdvanceAll();
  void Sleep();
  void Wake();

  const std::shared_ptr<const RdmaDevice> device_;
  AdaptiveSpin spin_;  // the thread's own
  std::shared_ptr<RdmaChannel> channel_;
  FileDescriptor wake_;  // an eventfd
  std::atomic<bool> stop_{false};
  std::atomic<bool> mail_{false};
  Mutex mutex_;
  std::vector<std::shared_ptr<RdmaSession>> added_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<RdmaSession>> removed_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<RdmaSession>> clients_;  // the thread's own
  std::thread thread_;
};

}  // namespace engram
