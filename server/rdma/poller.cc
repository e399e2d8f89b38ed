#include "server/rdma/poller.h"

#include <numa.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

using SteadyClock = std::chrono::steady_clock;

// An event that was missed delays a request by this much at most.
constexpr int kLongestSleepMs = 100;

void Pause() { __builtin_ia32_pause(); }

}  // namespace

absl::StatusOr<std::unique_ptr<RdmaPoller>> RdmaPoller::Start(
    std::shared_ptr<const RdmaDevice> device, uint32_t number, std::chrono::microseconds spin) {
  std::unique_ptr<RdmaPoller> poller(new RdmaPoller(std::move(device), spin));
  absl::StatusOr<std::shared_ptr<RdmaChannel>> channel = RdmaChannel::Create(poller->device_);
  if (!channel.ok()) return channel.status();
  poller->channel_ = *std::move(channel);
  poller->wake_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!poller->wake_.is_open()) return absl::ErrnoToStatus(errno, "no eventfd for RDMA");
  absl::StatusOr<std::thread> thread =
      StartThread(absl::StrCat("engram-rdma/", number), [raw = poller.get()] { raw->Run(); });
  if (!thread.ok()) return thread.status();
  poller->thread_ = *std::move(thread);
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

void RdmaPoller::Add(std::shared_ptr<RdmaClient> client) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    added_.push_back(std::move(client));
  }
  Wake();
}

void RdmaPoller::Remove(const std::shared_ptr<RdmaClient>& client) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    removed_.push_back(client);
  }
  Wake();
}

void RdmaPoller::Run() {
  const int node = device_->numa_node();
  // Without it lookups are slower, and as right.
  if (node >= 0 && numa_available() >= 0) numa_run_on_node(node);
  SteadyClock::time_point last_work = SteadyClock::now();
  while (!stop_.load(std::memory_order_relaxed)) {
    if (mail_.load(std::memory_order_relaxed)) TakeMail();
    if (AdvanceAll()) {
      last_work = SteadyClock::now();
    } else if (!clients_.empty() && SteadyClock::now() - last_work < spin_) {
      Pause();
    } else {
      Sleep();
      last_work = SteadyClock::now();
    }
  }
}

void RdmaPoller::TakeMail() {
  mail_.store(false);
  std::vector<std::shared_ptr<RdmaClient>> added, removed;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    added.swap(added_);
    removed.swap(removed_);
  }
  for (std::shared_ptr<RdmaClient>& client : added) clients_.push_back(std::move(client));
  for (const std::shared_ptr<RdmaClient>& client : removed) {
    clients_.erase(std::remove(clients_.begin(), clients_.end(), client), clients_.end());
  }
}

bool RdmaPoller::AdvanceAll() {
  bool worked = false;
  for (const std::shared_ptr<RdmaClient>& client : clients_) worked |= client->Advance();
  return worked;
}

void RdmaPoller::Sleep() {
  for (const std::shared_ptr<RdmaClient>& client : clients_) {
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
