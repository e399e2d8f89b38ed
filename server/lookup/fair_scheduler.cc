#include "server/lookup/fair_scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"

namespace engram {
namespace {

// Before anything was measured: 5 GB/s.
constexpr double kFirstNsPerByte = 0.2;
// Of a new measurement in the estimate: a burst's first messages move it, one odd message does not.
constexpr double kWeight = 1.0 / 16;
// A measurement of work stands for at most this much: what took longer was not the work (the
// process was stopped).
constexpr double kMostNsPerByte = 100;
// A third of a batch's time is for what is not seen from here: its request lay in sockets, and its
// answer lies there until the client takes it. Queues that took four fifths of the time gave
// answers at 49 of 50 ms, and any error of the estimate made them late. At a half, a client that
// asks for half of its share is turned away for its own bursts.
constexpr double kMargin = 1.5;

void Measure(MonotonicTime from, MonotonicTime to, uint64_t work, double* ns_per_byte) {
  const auto took_ns = static_cast<double>(to.nanoseconds() - from.nanoseconds());
  const double measured = std::min(took_ns / static_cast<double>(work), kMostNsPerByte);
  *ns_per_byte += kWeight * (measured - *ns_per_byte);
}

}  // namespace

struct FairScheduler::Client {
  std::string name;
  size_t calls = 0;
  std::deque<Call*> ready;
  uint64_t service_received =
      0;                // work done for it, or what it would have had if it had always been there
  uint64_t queued = 0;  // work admitted and not done
  double ns_per_byte = kFirstNsPerByte;  // of its own work while it has any queued
  MonotonicTime since;                   // the last of it was done, or the first queued
};

FairScheduler::Call::~Call() {
  if (scheduler_ != nullptr) scheduler_->Leave(*this);
}

FairScheduler::FairScheduler(const Clock& clock) : clock_(clock), ns_per_byte_(kFirstNsPerByte) {}
FairScheduler::~FairScheduler() = default;

void FairScheduler::Join(Call& call, const std::string& client) {
  std::unique_ptr<Client>& place = clients_[client];
  if (place == nullptr) {
    place = std::make_unique<Client>();
    place->name = client;
  } else if (place->calls == 0) {
    gone_.erase(std::make_pair(place->service_received, place.get()));
  }
  ++place->calls;
  call.scheduler_ = this;
  call.client_ = place.get();
}

void FairScheduler::Leave(Call& call) {
  Unready(call);
  Drop(call, call.queued_);
  Client* const client = call.client_;
  call.scheduler_ = nullptr;
  if (--client->calls > 0) return;
  gone_.emplace(client->service_received, client);
  ForgetGone();
}

// Those that would come back as new ones do, or were the nearest to it.
void FairScheduler::ForgetGone() {
  while (!gone_.empty() && (gone_.begin()->first <= virtual_time_ || gone_.size() > kMaxGone)) {
    const auto at = clients_.find(gone_.begin()->second->name);
    gone_.erase(gone_.begin());
    clients_.erase(at);
  }
}

absl::Status FairScheduler::Admit(Call& call, uint64_t ahead, uint64_t work, absl::Duration left) {
  if (left != absl::InfiniteDuration()) {
    const absl::Duration wait = Wait(call, ahead, work);
    if (wait == absl::ZeroDuration() && left < wait) {
      return absl::DeadlineExceededError(
          "the batch's time was over when it had been read, with nothing before it: give it more "
          "(timeout_us, or the call's deadline), at least what its way to engramd and back takes");
    }
    if (wait > left) {
      const int64_t wait_us = absl::ToInt64Microseconds(absl::Ceil(wait, absl::Microseconds(1)));
      return absl::ResourceExhaustedError(
          absl::StrCat("engramd is behind: this batch would take ", wait_us, " us and has ",
                       std::max<int64_t>(0, absl::ToInt64Microseconds(left)),
                       ": ask again, or give it more time"));
    }
  }
  Client& client = *call.client_;
  if (client.queued == 0) client.since = clock_.Now();
  client.queued += work;
  call.queued_ += work;
  return absl::OkStatus();
}

void FairScheduler::Drop(Call& call, uint64_t work) {
  ENGRAM_CHECK(work <= call.queued_, "more work was done, or dropped, than was admitted");
  call.queued_ -= work;
  call.client_->queued -= work;
}

MonotonicTime FairScheduler::Done(Call& call, uint64_t work) {
  Drop(call, work);
  Client& client = *call.client_;
  client.service_received += work;
  const MonotonicTime now = clock_.Now();
  Measure(client.since, now, work, &client.ns_per_byte);
  client.since = now;
  return now;
}

void FairScheduler::Ready(Call& call) {
  if (call.ready_) return;
  call.ready_ = true;
  Client& client = *call.client_;
  client.ready.push_back(&call);
  if (client.ready.size() > 1) return;
  client.service_received = std::max(client.service_received, virtual_time_);
  if (ready_.empty()) busy_since_ = clock_.Now();
  ready_.push_back(&client);
}

void FairScheduler::Unready(Call& call) {
  if (!std::exchange(call.ready_, false)) return;
  Client& client = *call.client_;
  client.ready.erase(std::find(client.ready.begin(), client.ready.end(), &call));
  if (client.ready.empty()) ready_.erase(std::find(ready_.begin(), ready_.end(), &client));
}

void FairScheduler::RunNext() {
  ENGRAM_CHECK(!ready_.empty(), "there is no call whose turn it is");
  const auto less = [](const Client* a, const Client* b) {
    return a->service_received < b->service_received;
  };
  Client& client = **std::min_element(ready_.begin(), ready_.end(), less);
  virtual_time_ = client.service_received;
  Call& call = *client.ready.front();
  Unready(call);
  const uint64_t before = client.service_received;
  // The client may be gone after the turn: its call outlives it, for it is not removed before the
  // loop is back.
  call.TakeTurn();
  const uint64_t work = client.service_received - before;
  if (work == 0) return;
  const MonotonicTime now = clock_.Now();
  Measure(busy_since_, now, work, &ns_per_byte_);
  busy_since_ = now;
}

absl::Duration FairScheduler::Wait(const Call& call, uint64_t ahead, uint64_t work) const {
  const Client& own = *call.client_;
  const uint64_t mine = ahead + work;
  // Its client's other calls go first with what they have queued, but no longer than until each has
  // had as much as this one; and other clients until they have had as much as all of these.
  uint64_t own_work = mine;
  for (const Call* other : own.ready) {
    if (other != &call) own_work += std::min(other->queued_, mine);
  }
  uint64_t before = own_work;
  for (const Client* client : ready_) {
    if (client != &own) before += std::min(client->queued, own_work);
  }
  // Nothing is in its way: it has all the time that there is.
  if (before == work) return absl::ZeroDuration();
  double ns = static_cast<double>(before) * ns_per_byte_;
  // What holds its answers up may be its own connection. Not asked when none is ahead: else
  // what was slow once would never be tried again.
  if (own_work > work) ns = std::max(ns, static_cast<double>(own_work) * own.ns_per_byte);
  return absl::Nanoseconds(static_cast<int64_t>(ns * kMargin));
}

}  // namespace engram
