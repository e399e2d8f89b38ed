#include "client/cluster/faster_ways.h"

#include <algorithm>
#include <utility>

#include "memstore/base/status_macros.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// Between two looks whether a transport that is to be closed is still held by somebody.
constexpr absl::Duration kCloseLook = absl::Milliseconds(20);

}  // namespace

absl::StatusOr<std::unique_ptr<FasterWays>> FasterWays::Start(Open open, OnOpened on_opened,
                                                              Clock& clock) {
  std::unique_ptr<FasterWays> ways(new FasterWays(std::move(open), std::move(on_opened), clock));
  ENGRAM_ASSIGN_OR_RETURN(ways->thread_,
                          StartThread("engram-ways", [raw = ways.get()] { raw->Run(); }));
  return ways;
}

FasterWays::~FasterWays() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void FasterWays::Lengthen(absl::Duration* pause) {
  *pause = *pause == absl::ZeroDuration() ? kFirstPause : std::min(*pause * 2, kLongestPause);
}

void FasterWays::Want(StoreId store, std::string address) {
  MutexLock lock(mutex_);
  const auto [entry, is_new] = wanted_.try_emplace(store);
  Wanted& wanted = entry->second;
  if (!is_new && wanted.address == address && !wanted.at.is_infinite()) return;
  const MonotonicTime now = clock_.Now();
  if (is_new || wanted.address != address) {
    wanted = Wanted();
    wanted.address = std::move(address);
    wanted.at = now;
  } else {
    // One that held is not one that never holds.
    if (now - wanted.opened_at > kHeld * wanted.pause) wanted.pause = absl::ZeroDuration();
    Lengthen(&wanted.pause);
    wanted.at = now + wanted.pause;
  }
  changed_.NotifyAll();
}

void FasterWays::Forget(StoreId store) {
  MutexLock lock(mutex_);
  wanted_.erase(store);
}

void FasterWays::Close(std::shared_ptr<TicketedTransport> transport) {
  MutexLock lock(mutex_);
  closing_.push_back(std::move(transport));
  changed_.NotifyAll();
}

void FasterWays::Run() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    CloseUnused();
    const MonotonicTime now = clock_.Now();
    MonotonicTime next = closing_.empty() ? MonotonicTime::Infinite() : now + kCloseLook;
    StoreId due = kNoStore;
    for (const auto& [store, wanted] : wanted_) {
      if (wanted.at <= now && (due == kNoStore || wanted.at < wanted_[due].at)) due = store;
      next = std::min(next, wanted.at);
    }
    if (due != kNoStore) {
      OpenDue(due);
    } else {
      clock_.WaitUntil(changed_, mutex_, next);
    }
  }
}

void FasterWays::OpenDue(StoreId store) {
  Wanted& wanted = wanted_[store];
  const std::string address = wanted.address;
  wanted.at = MonotonicTime::Infinite();
  mutex_.Unlock();
  FasterWay way = open_(address);
  const bool is_open = way.transport != nullptr;
  const bool may_come = way.may_come;
  mutex_.Lock();
  const auto found = wanted_.find(store);
  if (found != wanted_.end() && found->second.address == address) {
    found->second.opened_at = clock_.Now();
    if (!is_open && may_come) {
      Lengthen(&found->second.pause);
      found->second.at = clock_.Now() + found->second.pause;
    }
  }
  mutex_.Unlock();
  on_opened_(store, address, std::move(way));
  mutex_.Lock();
}

void FasterWays::CloseUnused() {
  std::vector<std::shared_ptr<TicketedTransport>> unused;
  for (size_t i = 0; i < closing_.size();) {
    if (closing_[i].use_count() > 1) {
      ++i;
      continue;
    }
    unused.push_back(std::move(closing_[i]));
    closing_.erase(closing_.begin() + static_cast<ptrdiff_t>(i));
  }
  if (unused.empty()) return;
  mutex_.Unlock();
  unused.clear();
  mutex_.Lock();
}

}  // namespace engram
