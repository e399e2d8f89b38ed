// The tickets of an RDMA client and the connection that they travel over: submit, wait, reap, and
// what happens when the connection breaks.
//
// It has no thread: whoever submits, polls or waits takes completions, under one lock. A wait spins
// for a short while, then one waiter sleeps on the connection and the others on that one.
//
// What is lent stays so until nothing can land any more: a batch that failed is reaped once the
// owner has answered for every request of it, or, when that takes too long, once the connection was
// closed. A connection that is suspect is closed first, and only then is what had not landed asked
// for over another one, which whoever waits or submits next opens; a batch that this happens to
// twice, or for which no other connection can be had, fails with UNAVAILABLE.
//
// Thread-safe, with transport.h's contract for tickets; a warm lookup allocates nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/rdma/request_way.h"
#include "client/transport/ticket_table.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

struct RdmaExchangeOptions {
  std::string address;  // the owner's, for messages
  // How long a waiting thread looks for rows before it sleeps.
  absl::Duration spin;
  // Whether what a connection that broke did not bring is asked for once more, over another.
  bool resend = true;
  Clock* clock = &RealClock();  // outlives it
};

class RdmaExchange {
 public:
  // Opens another connection, until the deadline; called by one thread at a time, without the lock.
  using Open = std::function<absl::StatusOr<RdmaOpened>(MonotonicTime deadline)>;

  RdmaExchange(RdmaOpened first, Open open, const RdmaExchangeOptions& options);
  ~RdmaExchange();  // nothing lands after it

  // `fill` describes the batch, under the lock; its errors and the way's are returned.
  absl::StatusOr<Ticket> Submit(MonotonicTime deadline,
                                absl::FunctionRef<absl::Status(RdmaBatch&)> fill);
  TicketState Poll(Ticket ticket);
  absl::Status Wait(Ticket ticket);
  absl::Status WaitLayer(Ticket ticket, size_t index);
  void Cancel(Ticket ticket);
  void Reap(Ticket ticket);

  // Of the connection there is now.
  RdmaCounts Counts();
  void BreakForTest();

 private:
  absl::Status WaitUntilLanded(Ticket ticket, size_t index);
  // These two give the lock back for a while and take it again.
  void Sleep(MonotonicTime until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Reconnect(MonotonicTime deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Send() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Suspect(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Break(absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FailLate(RdmaBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<RdmaBatch> Spare() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(std::shared_ptr<RdmaBatch> batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Open open_;
  const std::string address_;
  const absl::Duration spin_;
  const bool resend_;
  Clock& clock_;
  TicketTable<RdmaBatch> tickets_;

  Mutex mutex_;
  CondVar changed_;
  bool somebody_sleeps_ ABSL_GUARDED_BY(mutex_) = false;    // on the link; others on changed_
  std::shared_ptr<RdmaLink> link_ ABSL_GUARDED_BY(mutex_);  // null while there is no connection
  std::unique_ptr<RequestWay> way_ ABSL_GUARDED_BY(mutex_);
  // The connection is of no more use; the owner may say why.
  absl::Status suspected_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime suspected_at_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);  // why there is no connection
  MonotonicTime broken_at_ ABSL_GUARDED_BY(mutex_);
  bool reconnecting_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime next_try_ ABSL_GUARDED_BY(mutex_);
  uint64_t batches_ ABSL_GUARDED_BY(mutex_) = 0;
  RdmaSendQueue queue_ ABSL_GUARDED_BY(mutex_){kMaxOpenTickets};
  // While a connection is let go.
  std::vector<std::shared_ptr<RdmaBatch>> interrupted_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<RdmaBatch>> spare_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
