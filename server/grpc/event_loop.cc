#include "server/grpc/event_loop.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/os/thread.h"
#include "proto/rpc/take_event.h"
#include "server/base/limits.h"

namespace engram {
namespace {

// How often a loop looks for calls that have waited or stalled too long.
constexpr absl::Duration kTickInterval = absl::Milliseconds(250);
// While calls wait for their turns, events are looked for this often (a look costs a microsecond or
// two), and this many are taken at once at most: those of a few hundred clients.
constexpr absl::Duration kEventInterval = absl::Microseconds(100);
constexpr int kEventsAtOnce = 256;
// gRPC serves one socket a look, and a look that only moved bytes finds no event. So a look that
// found none says little: there is one for each call, up to this many, before it is believed.
constexpr size_t kEmptyLooks = 32;
// Batches kept for their memory, and the memory at which one is let go instead: the ids of a
// prefill of a few thousand tokens.
constexpr size_t kMaxSpareBatches = 16;
constexpr uint64_t kMaxSpareBytes = 1 << 20;

}  // namespace

EventLoop::EventLoop(ServingContext* context, uint32_t number,
                     std::function<void(EventLoop&)> accept, grpc::ServerBuilder& builder)
    : context_(context),
      metrics_(context->metrics->NewThread()),
      log_(context->log, number, *context->clock),
      number_(number),
      accept_(std::move(accept)),
      queue_(builder.AddCompletionQueue()),
      mailbox_(std::make_shared<Mailbox>(this)),
      on_slabs_free_([this, mailbox = mailbox_] { mailbox->Post([this] { OnSlabsFree(); }); }),
      woken_(this, &EventLoop::OnWoken),
      spin_(absl::FromChrono(context->spin)),
      scheduler_(*context->clock) {}

EventLoop::~EventLoop() { Stop(); }

absl::Status EventLoop::Start() {
  absl::StatusOr<std::thread> thread =
      StartThread(absl::StrCat("engram-loop/", number_), [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void EventLoop::Run() {
  CallTaker taker;
  taker_ = &taker;
  accept_(*this);
  next_tick_ = clock().After(kTickInterval);
  while (TakeEvents()) {
    if (!scheduler_.Empty()) scheduler_.RunNext();
    removed_.clear();
    if (stop_told_ && calls_.empty() && accepting_ == 0) {
      mailbox_->Close();
      queue_->Shutdown();
      stop_told_ = false;
    }
    if (clock().Now() < next_tick_) continue;
    Tick();
    removed_.clear();
    next_tick_ = clock().After(kTickInterval);
  }
}

bool EventLoop::TakeEvents() {
  bool idle = scheduler_.Empty();
  if (!idle && clock().Now() - events_taken_ < kEventInterval) return true;
  size_t empty_looks = 0;
  for (int taken = 0; taken < kEventsAtOnce;) {
    void* tag = nullptr;
    bool ok = false;
    const auto what = idle ? AwaitEvent(&tag, &ok) : TakeReady(&tag, &ok);
    if (what == grpc::CompletionQueue::SHUTDOWN) return false;
    if (what == grpc::CompletionQueue::GOT_EVENT) {
      rpc::QueueEvent::Dispatch(tag, ok);
      removed_.clear();
      ++taken;
    } else if (++empty_looks > std::min(calls_.size(), kEmptyLooks)) {
      break;
    }
    if (!idle) continue;
    if (waited_) break;
    // There was one after the other lately: this one's turn comes when the others are read.
    if (scheduler_.Empty() || clock().Now() - events_taken_ < kEventInterval) return true;
    idle = false;
  }
  events_taken_ = clock().Now();
  return true;
}

grpc::CompletionQueue::NextStatus EventLoop::TakeReady(void** tag, bool* ok) {
  const auto what = rpc::TakeReadyEvent(*queue_, tag, ok);
  if (what == grpc::CompletionQueue::TIMEOUT) taker_->FoundNothing();
  return what;
}

grpc::CompletionQueue::NextStatus EventLoop::AwaitEvent(void** tag, bool* ok) {
  auto what = grpc::CompletionQueue::TIMEOUT;
  waited_ = false;
  spin_.Wait(
      [&] {
        what = TakeReady(tag, ok);
        if (what != grpc::CompletionQueue::TIMEOUT) return true;
        waited_ = true;
        sched_yield();  // to whoever sends the next, where that one runs on the same core
        return false;
      },
      [&] {
        if (!waited_) what = TakeReady(tag, ok);
        if (what != grpc::CompletionQueue::TIMEOUT) return;
        waited_ = true;
        what = rpc::TakeEvent(*queue_, tag, ok, Elapsed(clock().Now(), next_tick_));
      });
  return what;
}

void EventLoop::Tick() {
  const MonotonicTime now = clock().Now();
  const bool memory_is_short =
      context_->slabs->FreeSlabs() < context_->slabs->slabs() / 4 || context_->ids.HalfUsed();
  for (auto at = calls_.begin(); at != calls_.end();) {
    Call* const call = (at++)->get();  // it may remove itself
    call->OnTick(now, memory_is_short);
  }
}

void EventLoop::Drain() {
  draining_.store(true);
  mailbox_->Post([this] { TellDrain(); });
}

void EventLoop::TellDrain() {
  if (std::exchange(drain_told_, true)) return;
  for (auto at = calls_.begin(); at != calls_.end();) {
    Call* const call = (at++)->get();
    call->OnDrain();
  }
}

void EventLoop::Mailbox::Post(std::function<void()> task) {
  MutexLock lock(mutex_);
  if (loop_ == nullptr) return;
  tasks_.push_back(std::move(task));
  // Else it was woken for those before, and has not taken them yet.
  if (tasks_.size() == 1) {
    loop_->alarm_.Set(loop_->queue_.get(), rpc::AtOnce(), loop_->woken_.tag());
  }
}

std::vector<std::function<void()>> EventLoop::Mailbox::TakeTasks() {
  MutexLock lock(mutex_);
  return std::exchange(tasks_, {});
}

void EventLoop::Mailbox::Close() {
  MutexLock lock(mutex_);
  loop_ = nullptr;
}

void EventLoop::OnWoken(bool) {
  for (const std::function<void()>& task : mailbox_->TakeTasks()) task();
}

void EventLoop::OnSlabsFree() {
  pool_tells_ = false;
  for (Call* call : std::exchange(awaiting_, {})) call->OnSlabs();
}

void EventLoop::Stop() {
  if (std::exchange(stopped_, true)) return;
  if (thread_.joinable()) {
    mailbox_->Post([this] { TellStop(); });
    thread_.join();
    return;
  }
  mailbox_->Close();
  queue_->Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
  }
}

void EventLoop::TellStop() {
  stop_told_ = true;
  for (auto at = calls_.begin(); at != calls_.end();) {
    Call* const call = (at++)->get();
    call->OnStop();
  }
}

void EventLoop::Add(std::unique_ptr<Call> call) {
  if (call->HoldsDrain()) ++live_calls_;
  calls_.push_back(std::move(call));
}

void EventLoop::Remove(Call* call) {
  awaiting_.erase(std::remove(awaiting_.begin(), awaiting_.end(), call), awaiting_.end());
  const auto at = std::find_if(calls_.begin(), calls_.end(),
                               [call](const auto& one) { return one.get() == call; });
  ENGRAM_CHECK(at != calls_.end(), "a call left its loop twice, or before it was added");
  removed_.push_back(std::move(*at));
  calls_.erase(at);
  if (call->HoldsDrain() && --live_calls_ == 0 && draining_.load()) context_->on_drained();
}

bool EventLoop::TakeSlabs(Call* call, uint64_t connection, uint32_t count,
                          std::vector<ReplySlabs::Slab>* slabs) {
  static const std::function<void()> kNobody;
  // Whoever waits is called by the same OnSlabsFree, which runs on this thread and so cannot come
  // too early.
  if (context_->slabs->Take(connection, count, pool_tells_ ? kNobody : on_slabs_free_, slabs)) {
    return true;
  }
  pool_tells_ = true;
  if (std::find(awaiting_.begin(), awaiting_.end(), call) == awaiting_.end()) {
    awaiting_.push_back(call);
  }
  return false;
}

std::unique_ptr<LookupBatch> EventLoop::NewBatch() {
  if (spare_batches_.empty()) return std::make_unique<LookupBatch>();
  std::unique_ptr<LookupBatch> batch = std::move(spare_batches_.back());
  spare_batches_.pop_back();
  return batch;
}

void EventLoop::Recycle(std::unique_ptr<LookupBatch> batch) {
  batch->Release();
  if (spare_batches_.size() < kMaxSpareBatches && batch->KeptBytes() <= kMaxSpareBytes) {
    spare_batches_.push_back(std::move(batch));
  }
}

}  // namespace engram
