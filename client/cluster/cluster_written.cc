// ClusterTransport's faster ways, and the attempts whose rows are written over them.
//
// Rows of a written attempt land without asking whether they may, so its end must be proved before
// its part may be asked for elsewhere, or its memory be given back. The proof is one of two events:
//   * OnTicketEnded(OK): the way's ticket is LANDED, which it is once it has no writer;
//   * Reap, or TryReap that says true, has returned: by transport.h the way writes to none of the
//     ticket's buffers after it. For a ring that is so since this side alone copies, one thread at
//     a time, and looks first whether the ticket is in flight. For RDMA every request was answered,
//     or the connection was closed: the queue pair is in error, drained and destroyed before Reap
//     returns (RdmaOptions::asks_once).
// An error that the sink is told of proves nothing: over RDMA the store may write still.

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cluster/cluster_transport.h"
#include "client/transport/failure_mark.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

// Room for so many ways and attempts before a look at them allocates.
constexpr size_t kLookedAt = 8;
// Of the reasons why stores are not reached in a faster way, those that are said.
constexpr size_t kReasonsNamed = 3;

// Whether an error of a faster way's Submit is the store's word, or the batch's own. Any other says
// that the way does not do: the batch was checked before.
bool IsAnswer(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status ClusterTransport::Register(absl::Span<std::byte> buffer) {
  landings_.Register(buffer);
  return absl::OkStatus();
}

absl::Status ClusterTransport::Unregister(absl::Span<std::byte> buffer) {
  landings_.Unregister(buffer);
  return absl::OkStatus();
}

// By the thread of faster_ways.h.
void ClusterTransport::OnFasterOpened(StoreId store, const std::string& address, FasterWay way) {
  bool may_fit_later = false;
  if (way.transport != nullptr) {
    absl::Status fits;
    if (way.transport->capabilities().max_batch_rows < parts_.max_batch_rows) {
      fits = absl::UnimplementedError("it takes fewer rows at once than the cluster");
    } else if (!way.anywhere) {
      fits = landings_.Join(way.transport);
    }
    if (!fits.ok()) {
      const auto unfit = std::exchange(way.transport, nullptr);
      way.why = absl::StrCat("no ", unfit->capabilities().name, ": ", fits.message());
      may_fit_later = !absl::IsUnimplemented(fits);
    }
  }
  MutexLock lock(router_mutex_);
  const auto found = links_.find(store);
  const bool is_wanted = found != links_.end() && found->second.address == address &&
                         found->second.faster.transport == nullptr;
  if (!is_wanted) {
    lock.Unlock();
    landings_.Leave(way.transport.get());
    return;
  }
  found->second.faster = std::move(way);
  const FasterWay& faster = found->second.faster;
  if (may_fit_later) ways_->Want(store, address);
  if (faster.transport == nullptr) return;
  if (!faster.anywhere) ++device_links_;
  router_.SetWay(store, faster.landing, faster.anywhere);
}

std::shared_ptr<TicketedTransport> ClusterTransport::FasterTo(StoreId store, LandingWay landing) {
  MutexLock lock(router_mutex_);
  const auto found = links_.find(store);
  if (found == links_.end() || found->second.faster.landing != landing) return nullptr;
  return found->second.faster.transport;
}

void ClusterTransport::CloseFaster(StoreId store, Link& link) {
  if (link.faster.transport == nullptr) return;
  router_.SetWay(store, LandingWay::kCopied);
  landings_.Leave(link.faster.transport.get());
  if (!link.faster.anywhere) --device_links_;
  if (ways_ != nullptr) ways_->Close(std::move(link.faster.transport));
  link.faster = {};
  link.answers = 0;
}

void ClusterTransport::LeaveFaster(StoreId store, const TicketedTransport* way,
                                   const absl::Status& why, bool breaks) {
  const auto found = links_.find(store);
  if (found == links_.end() || found->second.faster.transport.get() != way) return;
  Link& link = found->second;
  const std::string text =
      absl::StrCat("left ", link.faster.transport->capabilities().name, ": ", why.message());
  CloseFaster(store, link);
  link.faster.why = text;
  if (ways_ != nullptr) ways_->Want(store, link.address);
  if (breaks) router_.WayBroken(store, &actions_);
}

// Whether devices may write to all that the batch lands in; only asked where one would.
bool ClusterTransport::IsRegistered(const BatchRequest& request) const {
  if (device_links_ == 0 || request.tokens != nullptr) return false;
  for (size_t i = 0; i < request.layers.size(); ++i) {
    if (AsksForNoRows(request, i)) continue;
    const LayerRequest& layer = request.layers[i];
    if (!layer.landing.places.empty()) return false;
    const LayerTableSpec* const spec = parts_.table_set.manifest.FindLayer(layer.layer);
    ENGRAM_CHECK(spec != nullptr, "a batch that was not checked");
    const absl::StatusOr<uint64_t> bytes =
        layer.landing.Extent(layer.row_ids.size(), spec->row_bytes);
    if (!bytes.ok() || !landings_.Holds(layer.landing.data, *bytes)) return false;
  }
  return true;
}

// Of a part one thread copies at a time, and none while it is written: an attempt that was let
// through may still be at it when its part is asked for elsewhere. A copy of one message, or of
// what is mapped, is all that is waited for.
void ClusterTransport::AwaitCopies(ClusterBatch& batch, uint32_t part) {
  while (batch.is_copied[part] != 0) changed_.Wait(mutex_);
}

bool ClusterTransport::SendMapped(const RouterAction& action,
                                  const TicketRef<ClusterBatch>& batch) {
  const std::shared_ptr<TicketedTransport> over = FasterTo(action.store, LandingWay::kCopied);
  if (over == nullptr) return false;
  NoteSent(action, batch, {.over = over});
  absl::Status status = absl::CancelledError("its rows are wanted no more");
  if (BeginLanding(action.attempt)) {
    const absl::StatusOr<BatchRequest> request = RequestFor(action, *batch, *over);
    const absl::StatusOr<Ticket> ticket =
        request.ok() ? over->Submit(*request) : absl::StatusOr<Ticket>(request.status());
    if (ticket.ok()) over->Reap(*ticket);
    status = ticket.status();
    EndLanding(action.attempt);
  }
  MutexLock lock(router_mutex_);
  const auto sent = sent_.extract(action.attempt);
  const MonotonicTime now = clock().Now();
  if (!status.ok() && !absl::IsCancelled(status) && !IsAnswer(status.code())) {
    LeaveFaster(action.store, over.get(), status, /*breaks=*/false);
    return false;
  }
  if (absl::IsCancelled(status) && !batch->in_flight()) {
    router_.Cancel(action.batch, now, &actions_);  // no failure of the store's
  }
  for (const uint32_t layer : sent.mapped()->layers) {
    if (status.ok()) router_.LayerLanded(action.attempt, layer, now, &actions_);
  }
  router_.Reply(action.attempt, status, RetryAfterOf(status), now, &actions_);
  return true;
}

void ClusterTransport::SendWritten(const RouterAction& action,
                                   const TicketRef<ClusterBatch>& batch) {
  const std::shared_ptr<TicketedTransport> over = FasterTo(action.store, LandingWay::kWritten);
  if (over == nullptr) {  // it was left since; nothing was sent
    MutexLock lock(router_mutex_);
    return router_.Drained(action.attempt, clock().Now(), &actions_);
  }
  bool may_write = false;
  {
    TicketLock lock(*this);
    AwaitCopies(*batch, action.part);
    may_write = BeginWrite(*batch);
  }
  if (!may_write) {
    return NotSent(action, absl::CancelledError("its ticket is no longer in flight"));
  }
  NoteSent(action, batch, {.over = over, .written_over = over, .is_writer = true});
  absl::StatusOr<BatchRequest> request = RequestFor(action, *batch, *over);
  if (request.ok()) {
    request->sink = this;
    request->sink_tag = action.attempt;
  }
  const absl::StatusOr<Ticket> ticket =
      request.ok() ? over->Submit(*request) : absl::StatusOr<Ticket>(request.status());
  if (!ticket.ok()) {
    {
      MutexLock lock(router_mutex_);
      sent_.erase(action.attempt);
    }
    {
      TicketLock lock(*this);
      EndWrite(*batch);  // an error of Submit's: nothing stays lent
    }
    return NotWritten(action, over.get(), ticket.status());
  }
  {
    MutexLock lock(router_mutex_);
    Sent& sent = *sent_.at(action.attempt);
    sent.ticket = *ticket;
    sent.has_ticket = true;
    // What landed within Submit has no more to prove.
    (sent.is_writer ? written_ : ended_).push_back(action.attempt);
  }
  if (batch->in_flight()) return;
  TicketLock lock(*this);
  changed_.NotifyAll();  // StopWriters waits for the ticket
}

void ClusterTransport::NotWritten(const RouterAction& action, const TicketedTransport* way,
                                  const absl::Status& why) {
  if (IsAnswer(why.code()) && !IsBroken(why)) return NotSent(action, why);
  MutexLock lock(router_mutex_);
  LeaveFaster(action.store, way, why, /*breaks=*/true);
  router_.Drained(action.attempt, clock().Now(), &actions_);
}

void ClusterTransport::OnWrittenEnded(AttemptId attempt, const absl::Status& status) {
  TicketRef<ClusterBatch> batch;
  bool ends = false;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found == sent_.end()) return;
    Sent& sent = *found->second;
    sent.has_ended = true;
    if (!status.ok()) {
      // MoveWritten finds it, and reaps it once nothing of it is written any more.
      sent.error = status;
      if (!IsBroken(status) || sent.is_broken) return;
      // Once for all that was under way there, whose own ends follow.
      for (const auto& [id, other] : sent_) {
        if (other->written_over == sent.written_over) other->is_broken = true;
      }
      LeaveFaster(sent.store, sent.written_over.get(), status, /*breaks=*/true);
      WantPump();
      return;
    }
    batch = sent.batch;
    ends = std::exchange(sent.is_writer, false);
  }
  if (!ends) return;  // another thread proved it
  {
    TicketLock lock(*this);
    EndWrite(*batch);
  }
  MutexLock lock(router_mutex_);
  router_.Reply(attempt, status, absl::ZeroDuration(), clock().Now(), &actions_);
  std::erase(written_, attempt);
  const auto found = sent_.find(attempt);
  if (found != sent_.end() && found->second->has_ticket) ended_.push_back(attempt);
  WantPump();
}

// Nothing of the attempt is written any more; whoever is the first to prove it says so.
void ClusterTransport::EndWritten(AttemptId attempt, bool is_drained) {
  std::unique_ptr<Sent> sent;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found != sent_.end()) {
      sent = std::move(found->second);
      sent_.erase(found);
      std::erase(written_, attempt);
    }
  }
  if (sent == nullptr) return;  // whoever proved it first tells the router, the store's answer too
  if (sent->is_writer) {
    TicketLock lock(*this);
    EndWrite(*sent->batch);
  }
  MutexLock lock(router_mutex_);
  const MonotonicTime now = clock().Now();
  const bool has_answer =
      !sent->error.ok() && !IsBroken(sent->error) &&
      (!is_drained || !absl::IsCancelled(sent->error));  // our own, by reaping it
  if (has_answer) {
    router_.Reply(attempt, sent->error, RetryAfterOf(sent->error), now, &actions_);
  } else {
    router_.Drained(attempt, now, &actions_);
  }
  WantPump();
}

// Returns once nothing of the attempt is written any more.
void ClusterTransport::DrainSent(AttemptId attempt) {
  std::shared_ptr<TicketedTransport> over;
  Ticket ticket;
  {
    MutexLock lock(router_mutex_);
    const auto found = sent_.find(attempt);
    if (found != sent_.end() && found->second->has_ticket) {
      over = found->second->written_over;
      ticket = found->second->ticket;
    }
  }
  if (over != nullptr) over->Reap(ticket);
  EndWritten(attempt, /*is_drained=*/true);
}

// What has not been proved to be over by now is drained, whatever that costs its link.
void ClusterTransport::StopWriters(TicketedBatch& batch) {
  TicketLock lock(*this);
  while (batch.writers() > 0) {
    absl::InlinedVector<AttemptId, kLookedAt> open;
    {
      MutexLock router_lock(router_mutex_);
      for (const AttemptId attempt : written_) {
        if (sent_.at(attempt)->batch.get() == &batch) open.push_back(attempt);
      }
    }
    if (open.empty()) {
      // A copy goes on, an attempt is about to have a ticket, or another thread tells of an end.
      changed_.Wait(mutex_);
      continue;
    }
    lock.Unlock();
    for (const AttemptId attempt : open) DrainSent(attempt);
    Pump();  // what else was under way over those links is asked for elsewhere
    lock.Lock();
  }
}

// A part of many rows lands long after its first answer, and its store is not silent meanwhile.
void ClusterTransport::HearFaster(StoreId store, const TicketedTransport& way) {
  const auto found = links_.find(store);
  if (found == links_.end() || found->second.faster.transport.get() != &way) return;
  if (const uint64_t answers = way.AnswersTaken(); answers != found->second.answers) {
    found->second.answers = answers;
    router_.Heard(store, clock().Now(), &actions_);
  }
}

bool ClusterTransport::MoveWritten() {
  struct Look {
    AttemptId attempt = kNoAttempt;
    StoreId store = kNoStore;
    std::shared_ptr<TicketedTransport> over;
    Ticket ticket;
  };
  absl::InlinedVector<Look, kLookedAt> looks;
  {
    MutexLock lock(router_mutex_);
    if (written_.empty()) return false;
    // A look at one ticket moves all of its transport's along.
    for (const AttemptId attempt : written_) {
      const Sent& sent = *sent_.at(attempt);
      const bool is_known = std::any_of(looks.begin(), looks.end(), [&](const Look& look) {
        return look.over == sent.written_over;
      });
      if (sent.has_ended || is_known) continue;
      looks.push_back({attempt, sent.store, sent.written_over, sent.ticket});
    }
  }
  for (const Look& look : looks) look.over->Poll(look.ticket);
  {
    MutexLock lock(router_mutex_);
    for (const Look& look : looks) HearFaster(look.store, *look.over);
    looks.clear();
    for (const AttemptId attempt : written_) {
      const Sent& sent = *sent_.at(attempt);
      if (sent.has_ended) looks.push_back({attempt, sent.store, sent.written_over, sent.ticket});
    }
  }
  for (const Look& look : looks) {
    if (look.over->TryReap(look.ticket)) EndWritten(look.attempt, /*is_drained=*/false);
  }
  return true;
}

// "2 over shm, 1 over grpc (no shm: ...; no rdma: ...)"
std::string ClusterTransport::DescribeWays() const {
  std::map<std::string, size_t> counts;
  std::vector<std::string> reasons;
  for (const auto& [store, link] : links_) {
    const auto& faster = link.faster;
    ++counts[std::string(faster.transport == nullptr ? "grpc"
                                                     : faster.transport->capabilities().name)];
    if (faster.why.empty() || std::count(reasons.begin(), reasons.end(), faster.why) > 0) continue;
    reasons.push_back(faster.why);
  }
  const size_t stores = router_.map()->stores().size();
  std::vector<std::string> parts;
  for (const auto& [name, count] : counts) parts.push_back(absl::StrCat(count, " over ", name));
  if (stores > links_.size()) {
    parts.push_back(absl::StrCat(stores - links_.size(), " not asked yet"));
  }
  if (reasons.size() > kReasonsNamed) {
    const size_t more = reasons.size() - kReasonsNamed;
    reasons.resize(kReasonsNamed);
    reasons.push_back(absl::StrCat("and ", more, " more reasons"));
  }
  return absl::StrCat(absl::StrJoin(parts, ", "), reasons.empty() ? "" : " (",
                      absl::StrJoin(reasons, "; "), reasons.empty() ? "" : ")");
}

}  // namespace engram
