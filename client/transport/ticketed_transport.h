// The life of tickets, once, under every transport: transport.h's contract over a handful of hooks.
//
// Here: open tickets and spare batches, IN_FLIGHT -> LANDED or FAILED_LENT -> REAPED, deadlines,
// cancelling, layers, lent buffers and their writers, reaping within kReapTime, the sink. A
// transport gives: what it checks (Prepare), how a batch starts (Start), how a thread moves it
// along (Advance, Drive), how it is given up (TryCancel, StopWriters, Forget).
//
// Lent memory. A writer is whatever may write to a batch's landing buffers at a moment: a thread
// that copies rows, a request that the other side answers by writing. BeginWrite counts it before
// it may write, and refuses once the batch is no longer IN_FLIGHT; EndWrite when it can write no
// more. By construction:
//   * a ticket is LANDED when every layer has landed and no writer is left, and not before;
//   * Reap returns when no writer is left, and none begins afterwards;
//   * what MayAskAgain refuses is not asked for again into the same memory.
//
// Deadlines are looked at by Poll, Wait, WaitLayer and EndLate, with the clock given; a batch that
// nobody looks at stays IN_FLIGHT. Rows that are found at the same look as the deadline count.
//
// Thread safety: the public methods are transport.h's. One lock, `mutex_`, guards the state of all
// tickets; derived transports guard their own by it as well. It is taken with a TicketLock, which
// tells sinks what happened under it once it is given back: so no other lock is held at that
// moment. Nothing is copied under it by this class. Cost of a ticket: one short lock each in
// Submit, Wait and Reap, one more in each hook that takes it; nothing is allocated once warm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/transport/ticket_slots.h"
#include "client/transport/ticketed_batch.h"
#include "client/transport/transport.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"

namespace engram {

// Batches kept to be used again: more than a worker has open as a rule.
inline constexpr size_t kSpareBatches = 16;
// What Reap gives the writers of a batch that failed, before they are stopped; the rest of
// kReapTime is for that.
inline constexpr absl::Duration kReapPatience = absl::Milliseconds(500);

struct TicketOptions {
  Clock* clock = &RealClock();  // outlives the transport
  std::string owner = {};       // "engramd at HOST:PORT", for messages
  absl::Duration reap_patience = kReapPatience;
  size_t spare_batches = kSpareBatches;
};

// What a thread in Drive waits for. Lock-free.
class Awaited {
 public:
  static constexpr size_t kTicket = SIZE_MAX;

  bool Reached() const {
    if (no_writers_) return batch_.writers() == 0;
    return !batch_.in_flight() || batch_.LayerLanded(layer_);
  }
  // The layer at this index, or kTicket: all of it.
  size_t layer() const { return layer_; }

 private:
  friend class TicketedTransport;
  Awaited(const TicketedBatch& batch, size_t layer, bool no_writers)
      : batch_(batch), layer_(layer), no_writers_(no_writers) {}
  const TicketedBatch& batch_;
  const size_t layer_;
  const bool no_writers_;
};

class TicketedTransport : public Transport {
 public:
  ~TicketedTransport() override;  // ReapAll or Disown has been called

  absl::StatusOr<Ticket> Submit(const BatchRequest& request) final;
  TicketState Poll(Ticket ticket) final;
  absl::Status Wait(Ticket ticket) final;
  absl::Status WaitLayer(Ticket ticket, size_t index) final;
  void Cancel(Ticket ticket) final;
  void Reap(Ticket ticket) final;
  // Reap where that need not wait. False: the ticket is IN_FLIGHT, or its buffers may still be
  // written to; nothing was done but what had come was taken. For whoever drives several
  // transports at once and has no time for one of them.
  bool TryReap(Ticket ticket);
  // How many answers of the other side have been taken, to whatever part of whichever batch. Of two
  // looks with different counts: it lived in between, though no layer may have landed.
  virtual uint64_t AnswersTaken() const { return 0; }

 protected:
  explicit TicketedTransport(TicketOptions options);

  // Takes mutex_; when it is given back the sinks are told. So a thread that landed or failed
  // something gives it back before it waits on `changed_`.
  class ABSL_SCOPED_LOCKABLE TicketLock {
   public:
    explicit TicketLock(TicketedTransport& transport) ABSL_EXCLUSIVE_LOCK_FUNCTION(transport.mutex_)
        : transport_(transport) {
      transport_.mutex_.Lock();
    }
    ~TicketLock() ABSL_UNLOCK_FUNCTION() {
      if (held_) transport_.UnlockAndTell();
    }
    TicketLock(const TicketLock&) = delete;
    TicketLock& operator=(const TicketLock&) = delete;
    void Unlock() ABSL_UNLOCK_FUNCTION() {
      transport_.UnlockAndTell();
      held_ = false;
    }
    void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
      transport_.mutex_.Lock();
      held_ = true;
    }

   private:
    TicketedTransport& transport_;
    bool held_ = true;
  };

  // What a TicketLock ends with.
  void UnlockAndTell() ABSL_UNLOCK_FUNCTION(mutex_);

  // Hooks. Those without a lock in their declaration are called without it, and take it where they
  // need it; a batch given to one stays until the hook returns.

  // An error: every call is refused with it, Poll says REAPED, Cancel and Reap do nothing (a forked
  // child, which shares no lock and no memory with its parent). Asked first; one load.
  virtual absl::Status CheckUsable() const { return absl::OkStatus(); }
  // Before a ticket is opened: everything that Submit refuses (CheckBatch). Where
  // `capabilities().lands_asynchronously` is false the batch is gathered here as well, and none of
  // the hooks below is called: OK means that all rows are in place.
  virtual absl::Status Prepare(const BatchRequest& request) = 0;
  // A batch of the transport's own kind, to be used for one ticket after the other.
  virtual std::unique_ptr<TicketedBatch> NewBatch() { return std::make_unique<TicketedBatch>(); }
  // Puts the batch, which is IN_FLIGHT, under way. The request's ids are copied or sent before it
  // returns. An error is Submit's: nothing was begun, and no writer is left. Layers that ask for no
  // rows (AsksForNoRows) have landed before, and are skipped; at least one asks for some.
  virtual absl::Status Start(const BatchRequest& request, TicketedBatch& batch);
  // Takes what is there, of any batch; does not block.
  virtual void Advance(TicketedBatch& batch);
  // Moves batches along until `awaited.Reached()` or `until`; may return earlier, without a reason,
  // and is called again. What is there already is taken even if `until` has passed.
  virtual void Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until);
  // Once, when a ticket was cancelled, was late, or is reaped without having landed: asks the other
  // side to give up what is under way, and wakes those in Drive that `changed_` does not wake.
  virtual void TryCancel(TicketedBatch&) {}
  // Returns when the batch has no writer any more, whatever that takes and the other side does:
  // within kReapTime less the patience. By default waits for EndWrite: for writers that are threads
  // of this process.
  virtual void StopWriters(TicketedBatch& batch);
  // The batch is about to be used for another ticket: nothing of the transport's refers to it from
  // now on but what holds a TicketRef.
  virtual void Forget(TicketedBatch&) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {}

  // For hooks and threads of the derived transport.

  // Counts one more writer; false once the batch is no longer IN_FLIGHT: nothing may be written.
  bool BeginWrite(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a writer that has written its last byte, or never will. The ticket is LANDED when it was the
  // last and all layers have landed.
  void EndWrite(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All of them: what they wrote through is gone.
  void EndAllWrites(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // All rows of the layer are in place, and nothing writes to them any more. No effect on a batch
  // that is no longer IN_FLIGHT.
  void LandLayer(TicketedBatch& batch, size_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // IN_FLIGHT becomes FAILED_LENT; false when it was something else already.
  bool Fail(TicketedBatch& batch, absl::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether what has not landed may be asked for once more into the same memory.
  bool MayAskAgain(const TicketedBatch& batch) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return batch.in_flight() && batch.writers() == 0;
  }
  // Null when the ticket is unknown or reaped.
  TicketedBatch* Find(Ticket ticket) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return slots_.Find(ticket);
  }
  // Ends all tickets whose deadline has come, as Poll would each; returns when the next one may be
  // due. For transports that have a thread of their own, so that sinks are told without a Poll.
  MonotonicTime EndLate();
  // Of every derived destructor, first: its hooks are there until then.
  void ReapAll();
  // In its place, where the transport is of no more use (CheckUsable): tickets are dropped. Takes
  // no lock: one may be held, for ever, by a thread that did not come along into a forked child.
  void Disown();

  Clock& clock() const { return clock_; }

  mutable Mutex mutex_;
  // Notified whenever a layer lands, a ticket ends or a writer ends.
  CondVar changed_;

 private:
  absl::StatusOr<TicketedBatch*> Open(const BatchRequest& request, TicketState state);
  // Whether that is all of them.
  bool LandEmptyLayers(const BatchRequest& request, TicketedBatch& batch);
  void Publish(TicketedBatch& batch);
  void Abandon(TicketedBatch& batch);
  void Close(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status WaitUntil(Ticket ticket, size_t layer);
  // How a wait ends that has reached what it waited for.
  absl::Status Outcome(const TicketedBatch& batch, size_t layer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool EndIfLate(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelOnce(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AwaitNoWriters(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void End(TicketedBatch& batch, TicketState state, absl::Status status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LandIfComplete(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void HasNews(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Tell(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellRest(TicketedBatch& batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Clock& clock_;
  const std::string owner_;
  const absl::Duration reap_patience_;
  bool disowned_ = false;
  TicketSlots slots_ ABSL_GUARDED_BY(mutex_);
  // No open ticket is due before.
  MonotonicTime next_deadline_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::Infinite();
  std::vector<TicketRef<TicketedBatch>> to_tell_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
