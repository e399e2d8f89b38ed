#include "client/transport/rdma/rdma_exchange.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/failure_mark.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// How long a sleeper goes without looking at its deadline, at cancellation, at the lease.
constexpr absl::Duration kSleep = absl::Milliseconds(50);
// The same of those who wait for another one's sleep to end, or for the owner's word.
constexpr absl::Duration kShortSleep = absl::Milliseconds(5);
// The owner says on the lease why it broke a queue pair, a moment after it did.
constexpr absl::Duration kReasonTime = absl::Milliseconds(400);
constexpr absl::Duration kReconnectPause = absl::Milliseconds(250);
constexpr absl::Duration kReconnectTime = absl::Seconds(5);
// A batch that is only polled waits this long for somebody to open another connection.
constexpr absl::Duration kOrphanTime = absl::Seconds(1);

}  // namespace

RdmaExchange::RdmaExchange(const RdmaExchangeOptions& options)
    : TicketedTransport(
          {.clock = options.clock,
           .owner = absl::StrCat("engramd at ", options.address),
           .reap_patience = options.asks_once ? absl::ZeroDuration() : kReapPatience}),
      address_(options.address),
      spin_(options.spin),
      resend_(options.resend && !options.asks_once),
      asks_once_(options.asks_once),
      broken_(absl::UnavailableError("there is no connection yet")) {}

RdmaExchange::~RdmaExchange() = default;

void RdmaExchange::Begin(RdmaOpened first) {
  TicketLock lock(*this);
  Take(std::move(first));
}

void RdmaExchange::EndAll() {
  {
    TicketLock lock(*this);
    if (link_ != nullptr) Break(absl::CancelledError("the client was destroyed"));
  }
  ReapAll();
}

absl::Status RdmaExchange::Start(const BatchRequest& request, TicketedBatch& ticketed) {
  auto& batch = static_cast<RdmaBatch&>(ticketed);
  ENGRAM_RETURN_IF_ERROR(Fill(request, batch));
  TicketLock lock(*this);
  // A connection that broke while nobody looked is found out now.
  MoveAlong();
  // Where another thread is opening one, the batch waits for it as others do.
  if (link_ == nullptr && asks_once_) return broken_;
  if (link_ == nullptr && !reconnecting_) ENGRAM_RETURN_IF_ERROR(Reconnect(request.deadline));
  if (link_ != nullptr) ENGRAM_RETURN_IF_ERROR(way_->Check(batch));
  batch.number = ++batches_;
  // What has no rows is not asked for.
  for (size_t i = 0; i < batch.layer_count(); ++i) {
    if (batch.HasLanded(i) && !batch.LayerLanded(i)) LandLayer(batch, i);
  }
  queue_.Add(&batch);
  if (link_ != nullptr) Send();
  return absl::OkStatus();
}

absl::Status RdmaExchange::Reconnect(MonotonicTime deadline) {
  ENGRAM_CHECK(!reconnecting_, "two threads open another connection");
  if (clock().Now() < next_try_) return broken_;
  const MonotonicTime whole = clock().After(kReconnectTime);
  reconnecting_ = true;
  UnlockAndTell();
  absl::StatusOr<RdmaOpened> opened = OpenAnother(std::min(deadline, whole));
  mutex_.Lock();
  reconnecting_ = false;
  changed_.NotifyAll();
  if (absl::IsUnavailable(opened.status()) && deadline < whole && clock().Now() >= deadline) {
    // Of the owner that says nothing: whoever has more time tries at once.
    unattended_since_ = clock().Now();
    return absl::DeadlineExceededError(
        absl::StrCat("the deadline passed before another connection to engramd at ", address_,
                     " was open, after: ", broken_.message()));
  }
  next_try_ = clock().After(kReconnectPause);
  if (!opened.ok()) {
    const absl::Status failed = absl::UnavailableError(absl::StrCat(
        broken_.message(), "; and no other can be opened: ", opened.status().message()));
    interrupted_.clear();
    queue_.MoveTo(&interrupted_);
    for (RdmaBatch* const batch : interrupted_) Fail(*batch, failed);
    return broken_ = opened.status();
  }
  Take(*std::move(opened));
  return absl::OkStatus();
}

void RdmaExchange::Take(RdmaOpened opened) {
  link_ = std::move(opened.link);
  way_ = std::move(opened.way);
  suspected_ = broken_ = absl::OkStatus();
  // The owner may be another one than that which a batch was submitted to.
  interrupted_.clear();
  queue_.MoveTo(&interrupted_);
  for (RdmaBatch* const batch : interrupted_) {
    if (absl::Status status = way_->Check(*batch); status.ok()) {
      queue_.Add(batch);
    } else {
      Fail(*batch, std::move(status));
    }
  }
  Send();
}

// What is suspect gets nothing more: the batch waits for another connection.
void RdmaExchange::Send() {
  if (!suspected_.ok()) return;
  if (absl::Status sent = way_->Send(queue_, *this); !sent.ok()) Suspect(std::move(sent));
}

void RdmaExchange::MoveAlong() {
  if (link_ == nullptr) return;
  while (suspected_.ok()) {
    const absl::StatusOr<bool> some = way_->TakeCompletions(*this);
    if (!some.ok()) Suspect(some.status());
    if (!some.ok() || !*some) break;
  }
  if (absl::Status end = link_->Ended(); !end.ok()) {
    // That the call is over says less than why the queue pair broke.
    const bool bare = absl::IsUnavailable(end) || absl::IsCancelled(end);
    return Break(suspected_.ok() || !bare ? std::move(end) : suspected_);
  }
  if (!suspected_.ok() && clock().Now() - suspected_at_ > kReasonTime) return Break(suspected_);
  Send();
}

void RdmaExchange::Suspect(absl::Status status) {
  if (!suspected_.ok()) return;
  suspected_ = std::move(status);
  suspected_at_ = clock().Now();
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
  if (asks_once_) MarkBroken(&broken_);
  unattended_since_ = next_try_ = clock().Now();
  suspected_ = absl::OkStatus();
  // A batch may have been interrupted in several requests.
  std::sort(interrupted_.begin(), interrupted_.end(),
            [](const auto* a, const auto* b) { return a->number < b->number; });
  interrupted_.erase(std::unique(interrupted_.begin(), interrupted_.end()), interrupted_.end());
  for (RdmaBatch* const batch : interrupted_) {
    EndAllWrites(*batch);
    if (resend_ && absl::IsUnavailable(broken_) && batch->deadline() > unattended_since_ &&
        MayAskAgain(*batch) && batch->Restart()) {
      queue_.Add(batch);
    } else {
      Fail(*batch, broken_);
    }
  }
  changed_.NotifyAll();
}

void RdmaExchange::Advance(TicketedBatch& batch) {
  TicketLock lock(*this);
  MoveAlong();
  if (link_ == nullptr && !reconnecting_ && clock().Now() - unattended_since_ > kOrphanTime) {
    Fail(batch, broken_);
  }
}

void RdmaExchange::Drive(TicketedBatch&, const Awaited& awaited, MonotonicTime until) {
  // Once at least, whatever has come already.
  Found found = Look(awaited);
  if (found == Found::kNothing) {
    spin_.Wait(
        [&] {
          __builtin_ia32_pause();
          found = Look(awaited);
          return found != Found::kNothing || clock().Now() >= until;
        },
        [&] { Sleep(awaited, until); });
  }
  if (found == Found::kNoConnection) AwaitConnection(awaited, until);
  // Of those that nobody else looks at.
  if (found != Found::kAwaited) EndLate();
}

RdmaExchange::Found RdmaExchange::Look(const Awaited& awaited) {
  TicketLock lock(*this);
  MoveAlong();
  if (awaited.Reached()) return Found::kAwaited;
  return link_ == nullptr ? Found::kNoConnection : Found::kNothing;
}

void RdmaExchange::AwaitConnection(const Awaited& awaited, MonotonicTime until) {
  {
    TicketLock lock(*this);
    if (awaited.Reached() || link_ != nullptr) return;
    if (!reconnecting_) {
      // Where one can't be had, what waits for it has failed, or its deadline has come.
      if (clock().Now() >= until || Reconnect(until).ok() || awaited.Reached()) return;
    }
  }
  Sleep(awaited, until);
}

// Until something may have completed. One sleeps on the link, the others on that one.
void RdmaExchange::Sleep(const Awaited& awaited, MonotonicTime until) {
  std::shared_ptr<RdmaLink> link;
  {
    TicketLock lock(*this);
    if (awaited.Reached()) return;
    if (somebody_sleeps_ || link_ == nullptr || !suspected_.ok()) {
      clock().WaitUntil(changed_, mutex_, std::min(until, clock().After(kShortSleep)));
      return;
    }
    link = link_;
    if (!link->Arm()) return;
    // What came before it was armed wakes nobody.
    const uint64_t before = link->Counts().completions;
    MoveAlong();
    if (link_ != link || link->Counts().completions != before || awaited.Reached()) return;
    somebody_sleeps_ = true;
  }
  link->Sleep(std::clamp(until - clock().Now(), absl::ZeroDuration(), kSleep));
  TicketLock lock(*this);
  somebody_sleeps_ = false;
  MoveAlong();
  changed_.NotifyAll();
}

// Nothing that was posted is answered: it can be written no more once the connection is closed.
void RdmaExchange::StopWriters(TicketedBatch& batch) {
  TicketLock lock(*this);
  if (batch.writers() == 0) return;
  Break(absl::UnavailableError(
      absl::StrCat("engramd at ", address_,
                   " did not answer for a batch that was reaped, so its connection was cut")));
}

void RdmaExchange::Forget(TicketedBatch& batch) { queue_.Remove(static_cast<RdmaBatch*>(&batch)); }

void RdmaExchange::OnPosted(RdmaBatch& batch) {
  ENGRAM_CHECK(BeginWrite(batch), "something of a batch that has ended was posted");
}

void RdmaExchange::OnAnswered(RdmaBatch& batch) {
  ++answers_;
  EndWrite(batch);
}

void RdmaExchange::OnLayerLanded(RdmaBatch& batch, size_t place) {
  ++answers_;
  LandLayer(batch, place);
}

void RdmaExchange::OnFailed(RdmaBatch& batch, absl::Status why) { Fail(batch, std::move(why)); }

RdmaCounts RdmaExchange::Counts() {
  TicketLock lock(*this);
  return link_ == nullptr ? RdmaCounts() : link_->Counts();
}

void RdmaExchange::BreakForTest() {
  TicketLock lock(*this);
  if (link_ != nullptr) link_->BreakForTest();
}

}  // namespace engram
