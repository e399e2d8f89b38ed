#include "server/rdma/poller.h"

#include <numa.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// An event that was missed delays a request by this much at most.
constexpr int kLongestSleepMs = 100;

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaPoller>> RdmaPoller::Start(
    std::shared_ptr<const RdmaDevice> device, uint32_t number, absl::Duration spin,
    const Clock& clock) {
  std::unique_ptr<RdmaPoller> poller(new RdmaPoller(std::move(device), spin, clock));
  ENGRAM_ASSIGN_OR_RETURN(poller->channel_, RdmaChannel::Create(poller->device_));
  poller->wake_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!poller->wake_.is_open()) return absl::ErrnoToStatus(errno, "no eventfd for RDMA");
  ENGRAM_ASSIGN_OR_RETURN(poller->thread_, StartThread(absl::StrCat("engram-rdma/", number),
                                                       [raw = poller.get()] { raw->Run(); }));
  return poller;
}

RdmaPoller::~RdmaPoller() {
  stop_.store(true);
  Wake();
  if (thread_.joinable()) thread_.join();
}

void RdmaPoller::Wake() {
  mail_.store(true);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof(one));
}

void RdmaPoller::Add(std::shared_ptr<RdmaSession> client) {
  {
    const MutexLock lock(mutex_);
    added_.push_back(std::move(client));
  }
  Wake();
}

void RdmaPoller::Remove(const std::shared_ptr<RdmaSession>& client) {
  {
    const MutexLock lock(mutex_);
    removed_.push_back(client);
  }
  Wake();
}

void RdmaPoller::Run() {
  const int node = device_->numa_node();
  // Without it lookups are slower, and as right.
  if (node >= 0 && numa_available() >= 0) numa_run_on_node(node);
  const auto look = [this] {
    if (AdvanceAll() || mail_.load(std::memory_order_relaxed) ||
        stop_.load(std::memory_order_relaxed)) {
      return true;
    }
    __builtin_ia32_pause();
    return false;
  };
  const auto sleep = [this] { Sleep(); };
  while (!stop_.load(std::memory_order_relaxed)) {
    if (mail_.load(std::memory_order_relaxed)) TakeMail();
    if (clients_.empty()) {
      sleep();
    } else if (!AdvanceAll()) {
      spin_.Wait(look, sleep);
    }
  }
}

void RdmaPoller::TakeMail() {
  mail_.store(false);
  std::vector<std::shared_ptr<RdmaSession>> added, removed;
  {
    const MutexLock lock(mutex_);
    added.swap(added_);
    removed.swap(removed_);
  }
  for (std::shared_ptr<RdmaSession>& client : added) clients_.push_back(std::move(client));
  for (const std::shared_ptr<RdmaSession>& client : removed) {
    clients_.erase(std::remove(clients_.begin(), clients_.end(), client), clients_.end());
  }
}

bool RdmaPoller::AdvanceAll() {
  bool worked = false;
  for (const std::shared_ptr<RdmaSession>& client : clients_) worked |= client->Advance();
  return worked;
}

void RdmaPoller::Sleep() {
  for (const std::shared_ptr<RdmaSession>& client : clients_) {
    if (!client->broken()) static_cast<void>(client->Arm());
  }
  // What came before the queues were armed makes no event.
  if (AdvanceAll() || mail_.load()) return;
  pollfd wait[] = {{wake_.get(), POLLIN, 0}, {channel_->fd(), POLLIN, 0}};
  poll(wait, 2, kLongestSleepMs);
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_.get(), &count, sizeof(count));
  channel_->TakeEvents();
}

}  // namespace engram
