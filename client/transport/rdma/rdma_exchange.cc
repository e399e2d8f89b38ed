#include "client/transport/rdma/rdma_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// How long a sleeper goes without looking at its deadline, at cancellation, at the lease.
constexpr absl::Duration kSleep = absl::Milliseconds(50);
// The same of those who wait for another one's sleep to end, or for the owner's word.
constexpr absl::Duration kShortSleep = absl::Milliseconds(5);
// What Reap gives the owner to answer for a batch that failed, before it closes the connection; the
// rest of kReapTime is for that.
constexpr absl::Duration kReapPatience = absl::Milliseconds(500);
// The owner says on the lease why it broke a queue pair, a moment after it did.
constexpr absl::Duration kReasonTime = absl::Milliseconds(400);
constexpr absl::Duration kReconnectPause = absl::Milliseconds(250);
constexpr absl::Duration kReconnectTime = absl::Seconds(5);
// A batch that is only polled waits this long for somebody to open another connection.
constexpr absl::Duration kOrphanTime = absl::Seconds(1);
// Batches kept to be used again: more than a worker has open as a rule.
constexpr size_t kSpareBatches = 16;

}  // namespace

RdmaExchange::RdmaExchange(RdmaOpened first, Open open, const RdmaExchangeOptions& options)
    : open_(std::move(open)),
      address_(options.address),
      spin_(options.spin),
      resend_(options.resend),
      clock_(*options.clock),
      link_(std::move(first.link)),
      way_(std::move(first.way)) {
  spare_.reserve(kSpareBatches);
}

RdmaExchange::~RdmaExchange() {
  // Nothing lands after it, so no ticket has to be waited for.
  const MutexLock lock(mutex_);
  if (broken_.ok()) Break(absl::CancelledError("the client was destroyed"));
}

std::shared_ptr<RdmaBatch> RdmaExchange::Spare() {
  if (spare_.empty()) return std::make_shared<RdmaBatch>();
  std::shared_ptr<RdmaBatch> batch = std::move(spare_.back());
  spare_.pop_back();
  return batch;
}

void RdmaExchange::Keep(std::shared_ptr<RdmaBatch> batch) {
  if (spare_.size() < kSpareBatches) spare_.push_back(std::move(batch));
}

absl::StatusOr<Ticket> RdmaExchange::Submit(MonotonicTime deadline,
                                            absl::FunctionRef<absl::Status(RdmaBatch&)> fill) {
  const MutexLock lock(mutex_);
  // A connection that broke while nobody looked is found out now.
  Advance();
  if (!broken_.ok()) ENGRAM_RETURN_IF_ERROR(Reconnect(deadline));
  std::shared_ptr<RdmaBatch> batch = Spare();
  absl::Status status = fill(*batch);
  if (status.ok()) status = way_->Check(*batch);
  absl::StatusOr<Ticket> ticket = status.ok() ? tickets_.Open(batch) : status;
  if (!ticket.ok()) {
    Keep(std::move(batch));
    return ticket;
  }
  batch->number = ++batches_;
  queue_.Add(std::move(batch));
  Send();
  return ticket;
}

// Opens another connection, one thread at a time and not too often.
absl::Status RdmaExchange::Reconnect(MonotonicTime deadline) {
  if (reconnecting_ || clock_.Now() < next_try_) return broken_;
  reconnecting_ = true;
  mutex_.Unlock();
  absl::StatusOr<RdmaOpened> opened = open_(std::min(deadline, clock_.After(kReconnectTime)));
  mutex_.Lock();
  reconnecting_ = false;
  next_try_ = clock_.After(kReconnectPause);
  changed_.NotifyAll();
  if (!opened.ok()) {
    const absl::Status failed = absl::UnavailableError(absl::StrCat(
        broken_.message(), "; and no other can be opened: ", opened.status().message()));
    interrupted_.clear();
    queue_.MoveTo(&interrupted_);
    for (const std::shared_ptr<RdmaBatch>& batch : interrupted_) batch->Fail(failed);
    interrupted_.clear();
    return broken_ = opened.status();
  }
  link_ = std::move(opened->link);
  way_ = std::move(opened->way);
  suspected_ = broken_ = absl::OkStatus();
  Send();
  return absl::OkStatus();
}

// What is suspect gets nothing more: the batch waits for another connection.
void RdmaExchange::Send() {
  if (!suspected_.ok()) return;
  if (absl::Status sent = way_->Send(queue_); !sent.ok()) Suspect(std::move(sent));
}

void RdmaExchange::Advance() {
  if (!broken_.ok()) return;
  while (suspected_.ok()) {
    const absl::StatusOr<bool> some = way_->TakeCompletions();
    if (!some.ok()) Suspect(some.status());
    if (!some.ok() || !*some) break;
  }
  if (absl::Status end = link_->Ended(); !end.ok()) {
    // That the call is over says less than why the queue pair broke.
    const bool bare = absl::IsUnavailable(end) || absl::IsCancelled(end);
    return Break(suspected_.ok() || !bare ? std::move(end) : suspected_);
  }
  if (!suspected_.ok() && clock_.Now() - suspected_at_ > kReasonTime) return Break(suspected_);
  Send();
}

void RdmaExchange::Suspect(absl::Status status) {
  if (!suspected_.ok()) return;
  suspected_ = std::move(status);
  suspected_at_ = clock_.Now();
}

// From its return on nothing lands. What was under way waits for another connection, or has failed.
void RdmaExchange::Break(absl::Status status) {
  link_->Close();  // before anything of it may be asked for elsewhere, or is given back
  interrupted_.clear();
  way_->ForgetAll(&interrupted_);
  queue_.MoveTo(&interrupted_);
  link_.reset();
  way_.reset();
  broken_ = std::move(status);
  broken_at_ = next_try_ = clock_.Now();
  suspected_ = absl::OkStatus();
  // A batch may have been interrupted in several requests.
  std::sort(interrupted_.begin(), interrupted_.end(),
            [](const auto& a, const auto& b) { return a->number < b->number; });
  interrupted_.erase(std::unique(interrupted_.begin(), interrupted_.end()), interrupted_.end());
  for (std::shared_ptr<RdmaBatch>& batch : interrupted_) {
    batch->requests_out = 0;
    if (resend_ && absl::IsUnavailable(broken_) && batch->MayRestart(broken_at_)) {
      queue_.Add(std::move(batch));
    } else {
      batch->Fail(broken_);
    }
  }
  interrupted_.clear();
  changed_.NotifyAll();
}

TicketState RdmaExchange::Poll(Ticket ticket) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
  if (batch == nullptr) return TicketState::kReaped;
  Advance();
  if (!broken_.ok() && !reconnecting_ && clock_.Now() - broken_at_ > kOrphanTime) {
    batch->Fail(broken_);
  }
  FailLate(*batch);
  return batch->state;
}

void RdmaExchange::FailLate(RdmaBatch& batch) {
  if (batch.deadline > clock_.Now()) return;
  batch.Fail(absl::DeadlineExceededError("the deadline passed before every row had landed"));
}

absl::Status RdmaExchange::Wait(Ticket ticket) { return WaitUntilLanded(ticket, SIZE_MAX); }

absl::Status RdmaExchange::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntilLanded(ticket, index);
}

// Until the layer that stands at `index` has landed, or with SIZE_MAX all have.
absl::Status RdmaExchange::WaitUntilLanded(Ticket ticket, size_t index) {
  const MutexLock lock(mutex_);
  MonotonicTime spin_until = clock_.After(spin_);
  while (true) {
    const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
    if (batch == nullptr) {
      return absl::FailedPreconditionError("the ticket was reaped, or never given out");
    }
    Advance();
    if (index < batch->layers() && batch->HasLanded(index)) return absl::OkStatus();
    FailLate(*batch);
    if (batch->state == TicketState::kLanded) return absl::OkStatus();
    if (batch->state == TicketState::kFailedLent) return batch->status;
    if (!broken_.ok()) {
      // It waits for another connection; where one can't be had, it has failed.
      const bool connected = Reconnect(batch->deadline).ok();
      if (connected || batch->state != TicketState::kInFlight) continue;
    }
    const MonotonicTime now = clock_.Now();
    if (broken_.ok() && now < spin_until) {
      mutex_.Unlock();
      __builtin_ia32_pause();
      mutex_.Lock();
    } else {
      Sleep(std::min(batch->deadline, now + kSleep));
      spin_until = clock_.After(spin_);
    }
  }
}

// Until something may have completed. One sleeps on the link, the others on that one.
void RdmaExchange::Sleep(MonotonicTime until) {
  if (somebody_sleeps_ || link_ == nullptr || !suspected_.ok()) {
    clock_.WaitUntil(changed_, mutex_, std::min(until, clock_.After(kShortSleep)));
    return;
  }
  const std::shared_ptr<RdmaLink> link = link_;
  if (!link->Arm()) return;
  // What came before it was armed wakes nobody.
  const uint64_t before = link->Counts().completions;
  Advance();
  if (link_ != link || link->Counts().completions != before) return;
  somebody_sleeps_ = true;
  mutex_.Unlock();
  link->Sleep(std::clamp(until - clock_.Now(), absl::ZeroDuration(), kSleep));
  mutex_.Lock();
  somebody_sleeps_ = false;
  Advance();
  changed_.NotifyAll();
}

void RdmaExchange::Cancel(Ticket ticket) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Find(ticket);
  if (batch == nullptr) return;
  batch->Fail(absl::CancelledError("the batch was cancelled"));
  changed_.NotifyAll();
}

void RdmaExchange::Reap(Ticket ticket) {
  const MutexLock lock(mutex_);
  const std::shared_ptr<RdmaBatch> batch = tickets_.Close(ticket);
  if (batch == nullptr) return;
  // An error is memory: a batch that has ended takes none.
  if (batch->state == TicketState::kInFlight) {
    batch->Fail(absl::CancelledError("the batch was reaped"));
  }
  const MonotonicTime patience = clock_.After(kReapPatience);
  while (batch->requests_out > 0) {
    Advance();
    if (batch->requests_out == 0) break;
    if (clock_.Now() >= patience) {
      Break(absl::UnavailableError(
          absl::StrCat("engramd at ", address_,
                       " did not answer for a batch that was reaped, so its connection was cut")));
      break;
    }
    Sleep(patience);
  }
  batch->state = TicketState::kReaped;
  queue_.Remove(batch);
  Keep(batch);
}

RdmaCounts RdmaExchange::Counts() {
  const MutexLock lock(mutex_);
  return link_ == nullptr ? RdmaCounts() : link_->Counts();
}

void RdmaExchange::BreakForTest() {
  const MutexLock lock(mutex_);
  if (link_ != nullptr) link_->BreakForTest();
}

}  // namespace engram
