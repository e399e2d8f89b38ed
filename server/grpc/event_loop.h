// The loop that serves lookups over gRPC: one completion queue, one thread ("engram-loop/N").
//
// Every event of a call comes to the loop that accepted it, so a call has no lock. A call reads and
// checks, gathers into slabs, and sends: unary_call.h, stream_call.h. What all loops share is in
// ServingContext and is thread-safe. Events come first: requests are read, and turned away where
// there is too much to do, before more rows are gathered: what is not read lies in sockets, where
// no estimate sees it. Gathering is done in turns
// (fair_scheduler.h), a message at a time, so that one client's large batch does not hold up
// another's small one for longer than its ids take to be checked, or addressed.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "memstore/os/adaptive_spin.h"
#include "memstore/store/row_source.h"
#include "proto/rpc/queue_event.h"
#include "server/grpc/request_log.h"
#include "server/grpc/serving_context.h"
#include "server/lookup/fair_scheduler.h"
#include "server/lookup/lookup_batch.h"
#include "server/lookup/reply_slabs.h"
#include "server/net/call_backlog.h"

namespace engram {

// For Answered.
inline LookupName NameOf(const LookupBatch& batch) {
  return {.batch_id = batch.batch_id(), .table_set_id = batch.table_set_id()};
}

class EventLoop {
 public:
  // A call that was accepted. All methods run on the loop's thread.
  class Call {
   public:
    virtual ~Call() = default;
    virtual void OnSlabs() {}  // slabs came back since TakeSlabs gave none
    virtual void OnTick(MonotonicTime /*now*/, bool /*memory_is_short*/) {}
    virtual void OnDrain() {}
    // The server has ended. A call that has nothing under way with gRPC ends now; the others are
    // told by what they have.
    virtual void OnStop() {}
    // Whether a drain waits for it to end.
    virtual bool HoldsDrain() const { return true; }
  };

  // `context` outlives it. The builder gives it a queue; Start runs when the server
  // has started.
  // `accept` runs on the loop's thread before anything else: it accepts the first calls.
  EventLoop(ServingContext* context, uint32_t number, std::function<void(EventLoop&)> accept,
            grpc::ServerBuilder& builder);
  ~EventLoop();
  absl::Status Start();

  // Thread-safe: from now on new lookups are turned away, and streams end after the batches they
  // have read. Ended says when the last call is gone.
  void Drain();
  bool Ended() const { return live_calls_.load() == 0; }
  // After grpc::Server::Shutdown, which ends all calls: waits until the last one has left, takes
  // the last events and ends the thread. gRPC ends the process where something is begun on a queue
  // that was shut down, so that is done by the loop itself, when nothing is left to begin anything.
  void Stop();

  // For calls, on the loop's thread.
  ServingContext& context() { return *context_; }
  const Clock& clock() const { return *context_->clock; }
  FairScheduler& scheduler() { return scheduler_; }
  ThreadMetrics& metrics() { return *metrics_; }
  // Counts and logs how a lookup was answered; the rows and bytes of an answer that is OK.
  void Answered(Path path, const grpc::ServerContextBase& context, const LookupName& name,
                const absl::Status& status, uint64_t rows, uint64_t bytes,
                std::chrono::nanoseconds took) {
    metrics_->Answered(path, status.code(), rows, bytes, took);
    log_.Ended(path, context, name, status, rows, took);
  }
  // Logs a stream that is refused before a lookup of it was read.
  void Refused(const grpc::ServerContextBase& context, const absl::Status& status,
               std::chrono::nanoseconds took) {
    log_.Ended(Path::kGrpcStream, context, {}, status, 0, took);
  }
  grpc::ServerCompletionQueue* queue() { return queue_.get(); }
  bool draining() const { return draining_.load(std::memory_order_relaxed); }
  // A call waits to be accepted; it does no more, for it was or never is.
  void BeginAccept() { ++accepting_; }
  void EndAccept() { --accepting_; }
  void CountAccepted() { taker_->Took(); }
  void Add(std::unique_ptr<Call> call);
  // Destroys the call, after it has returned to the loop.
  void Remove(Call* call);
  // Appends `count` slabs for the call's connection, or none: then false, and OnSlabs is called
  // when some came back.
  bool TakeSlabs(Call* call, uint64_t connection, uint32_t count,
                 std::vector<ReplySlabs::Slab>* slabs);
  // Runs tasks on the loop's thread, for row sources.
  const std::shared_ptr<Executor>& executor() const { return executor_; }
  // Batches are kept from call to call, for their memory.
  std::unique_ptr<LookupBatch> NewBatch();
  void Recycle(std::unique_ptr<LookupBatch> batch);

 private:
  void Run();
  // Takes an event, or all that there are where calls wait for their turns; false when the queue is
  // shut down.
  bool TakeEvents();
  // What is ready, or TIMEOUT.
  grpc::CompletionQueue::NextStatus TakeReady(void** tag, bool* ok);
  // The next event, or TIMEOUT when a tick is due.
  grpc::CompletionQueue::NextStatus AwaitEvent(void** tag, bool* ok);
  // Tasks from any thread for the loop's. Outlives the loop: a slab may come back to the pool, or a
  // row source have rows, after it.
  class Mailbox final : public Executor {
   public:
    explicit Mailbox(EventLoop* loop) : loop_(loop) {}
    void Post(std::function<void()> task) override;
    // On the loop's thread, when it was woken.
    std::vector<std::function<void()>> TakeTasks();
    // From here on the loop may be gone, and tasks are dropped.
    void Close();

   private:
    Mutex mutex_;
    EventLoop* loop_ ABSL_GUARDED_BY(mutex_);  // null: closed
    std::vector<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  };
  void OnWoken(bool ok);
  void OnSlabsFree();
  void TellDrain();
  void TellStop();
  void Tick();

  ServingContext* const context_;
  const std::shared_ptr<ThreadMetrics> metrics_;
  RequestLog log_;
  const uint32_t number_;
  const std::function<void(EventLoop&)> accept_;
  const std::unique_ptr<grpc::ServerCompletionQueue> queue_;
  const std::shared_ptr<Mailbox> mailbox_;
  const std::shared_ptr<Executor> executor_ = mailbox_;
  const std::function<void()> on_slabs_free_;  // for the pool, from any thread
  std::thread thread_;
  bool stopped_ = false;  // Stop's
  std::atomic<bool> draining_{false};
  std::atomic<size_t> live_calls_{0};

  grpc::Alarm alarm_;
  rpc::MethodEvent<EventLoop> woken_;

  AdaptiveSpin spin_;
  FairScheduler scheduler_;     // calls_ leave it when they go
  MonotonicTime events_taken_;  // when there were no more
  MonotonicTime next_tick_;

  CallTaker* taker_ = nullptr;  // Run's

  std::vector<std::unique_ptr<LookupBatch>> spare_batches_;  // calls_ give theirs back when they go
  std::list<std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Call>> removed_;
  std::vector<Call*> awaiting_;  // slabs
  bool pool_tells_ = false;      // the pool has on_slabs_free_, to call it when some come back
  size_t accepting_ = 0;
  bool drain_told_ = false;
  bool stop_told_ = false;
  bool waited_ = false;  // for the last event: there was none at the first look
};

}  // namespace engram
