// The tickets of an RDMA client over the connection that there is: what is put under way, who looks
// for completions, and what happens when the connection breaks. The life of tickets itself:
// ticketed_transport.h. What a transport adds: the connections and how a batch is described.
//
// It has no thread: whoever submits, polls or waits takes completions, one thread at a time. A wait
// looks for a short while, where that does any good (adaptive_spin.h). Then one waiter sleeps on
// the connection, and the others wait for that one. A ticket that another thread cancels is seen
// within 50 ms.
//
// A batch's writers are the requests (or chains of reads) that were posted and not answered: the
// owner may still write for each of them. What is lent stays lent until the owner has answered for
// all of them or, when a reap waits too long for that, until the connection was closed.
//
// A connection that is suspect is closed first. Only then is what had not landed asked for again,
// over another connection. Whoever waits or submits next opens that one, by its own deadline; what
// is submitted meanwhile waits for it as well. A batch fails with UNAVAILABLE when this happens to
// it twice, or when no other connection can be had. When a try to connect ended only because the
// deadline of the thread that made it came, no batch fails for that: the next thread goes on with
// it, so that askers with little time, one after the other, get the owner's offer too. What follows
// the offer (the queue pair, a round trip to connect it and one for each landing buffer) is one
// thread's, which needs the time for it; where its deadline comes first, the next one begins anew.
//
// Thread-safe, with transport.h's contract for tickets; a warm lookup allocates nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/rdma/request_way.h"
#include "client/transport/ticketed_transport.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/os/adaptive_spin.h"

namespace engram {

struct RdmaExchangeOptions {
  std::string address;  // the owner's, for messages
  // How long a waiting thread looks for rows before it sleeps.
  absl::Duration spin;
  // Whether what a connection that broke did not bring is asked for once more, over another.
  bool resend = true;
  // RdmaOptions'.
  bool asks_once = false;
  Clock* clock = &RealClock();  // outlives it
};

class RdmaExchange : public TicketedTransport, private RdmaTickets {
 public:
  ~RdmaExchange() override;  // EndAll has been called

  // Of the connection there is now.
  RdmaCounts Counts();
  void BreakForTest();

  uint64_t AnswersTaken() const override { return answers_; }

 protected:
  explicit RdmaExchange(const RdmaExchangeOptions& options);

  // Takes the first connection, before anything is submitted.
  void Begin(RdmaOpened first);
  // Of every derived destructor, first: closes the connection, so that no ticket has to be waited
  // for, ends all with CANCELLED and reaps them.
  void EndAll();

  // Hooks; both are called without the lock.

  // What the batch asks for and where that lands; its errors are Submit's.
  virtual absl::Status Fill(const BatchRequest& request, RdmaBatch& batch) const = 0;
  // Opens another connection; returns by the deadline, with UNAVAILABLE where that ended it: the
  // next call may go on with what this one has begun. One call at a time.
  virtual absl::StatusOr<RdmaOpened> OpenAnother(MonotonicTime deadline) = 0;

 private:
  std::unique_ptr<TicketedBatch> NewBatch() override { return std::make_unique<RdmaBatch>(); }
  absl::Status Start(const BatchRequest& request, TicketedBatch& batch) override;
  void Advance(TicketedBatch& batch) override;
  void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) override;
  void StopWriters(TicketedBatch& batch) override;
  void Forget(TicketedBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void OnPosted(RdmaBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnAnswered(RdmaBatch& batch) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnLayerLanded(RdmaBatch& batch, size_t place) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnFailed(RdmaBatch& batch, absl::Status why) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // kNothing: there is a connection, and what is awaited has not come over it.
  enum class Found { kNothing, kAwaited, kNoConnection };
  // Takes what has completed. Opens no connection: it is called while a thread spins.
  Found Look(const Awaited& awaited);
  // Opens another connection, or sleeps for a moment where another thread is at it.
  void AwaitConnection(const Awaited& awaited, MonotonicTime until);
  void Sleep(const Awaited& awaited, MonotonicTime until);

  // Opens another connection, not too often; not while another thread does. Gives the lock back for
  // a while and takes it again. DEADLINE_EXCEEDED: `deadline` ended it, and nothing has changed.
  // Another error: what waited for a connection has failed, or did when it was tried last.
  absl::Status Reconnect(MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Take(RdmaOpened opened) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void MoveAlong() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Send() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Suspect(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string address_;
  AdaptiveSpin spin_;
  const bool resend_;
  const bool asks_once_;

  bool somebody_sleeps_ ABSL_GUARDED_BY(mutex_) = false;    // on the link; others on changed_
  std::shared_ptr<RdmaLink> link_ ABSL_GUARDED_BY(mutex_);  // null while there is no connection
  std::unique_ptr<RequestWay> way_ ABSL_GUARDED_BY(mutex_) ABSL_PT_GUARDED_BY(mutex_);
  // The connection is of no more use; the owner may say why.
  absl::Status suspected_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime suspected_at_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);  // why there is no connection
  // When it broke, or somebody last gave up opening another.
  MonotonicTime unattended_since_ ABSL_GUARDED_BY(mutex_);
  bool reconnecting_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime next_try_ ABSL_GUARDED_BY(mutex_);
  uint64_t batches_ ABSL_GUARDED_BY(mutex_) = 0;
  std::atomic<uint64_t> answers_{0};
  RdmaSendQueue queue_ ABSL_GUARDED_BY(mutex_){kMaxOpenTickets};
  // While a connection is let go.
  std::vector<RdmaBatch*> interrupted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
