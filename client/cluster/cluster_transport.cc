// ClusterTransport's tickets, maps and time.

#include "client/cluster/cluster_transport.h"

#include <sched.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "client/transport/row_deduplicator.h"
#include "memstore/base/check.h"
#include "memstore/base/human_units.h"
#include "memstore/base/status_macros.h"
#include "memstore/cluster/set_names.h"

namespace engram {
namespace {

// Between two looks at what is due while nobody waits: the driver's own thread is no finer.
constexpr absl::Duration kWakeSpace = absl::Milliseconds(1);
// Of the stores that refuse what they say they hold, those that Describe names.
constexpr size_t kLiarsNamed = 4;
// What every way to a store takes of one sequence: a request over RDMA has so many.
constexpr uint32_t kMaxSequenceTokens = 1024;

}  // namespace

ClusterTransport::ClusterTransport(Parts parts)
    : TicketedTransport({.clock = parts.clock, .owner = "the cluster"}),
      parts_(std::move(parts)),
      capabilities_{.name = "cluster",
                    .lands_asynchronously = true,
                    .max_batch_rows = parts_.max_batch_rows,
                    .max_sequence_tokens = kMaxSequenceTokens,
                    .lands_at_places = true,
                    .token_slices = true,
                    .tokens_at_places = true,
                    .repeats_removed_from = RowDeduplicator::kMinRows,  // by stores' transports
                    .owner_version = parts_.owner_version},
      random_(parts_.seed),
      router_(parts_.router, &random_),
      landings_([this](const RegisteredLandings::Link& link, const absl::Status& why) {
        MutexLock lock(router_mutex_);
        for (auto& [store, known] : links_) {
          if (known.faster.transport == link) LeaveFaster(store, link.get(), why, /*breaks=*/true);
        }
      }),
      written_spin_(parts_.spin, *parts_.clock, AdaptiveSpin::Crowding::kHarmless) {}

absl::StatusOr<std::unique_ptr<Transport>> ClusterTransport::Create(Parts parts) {
  std::unique_ptr<ClusterTransport> transport(new ClusterTransport(std::move(parts)));
  ENGRAM_ASSIGN_OR_RETURN(transport->addressers_,
                          PartAddressers::Create(transport->parts_.table_set));
  if (transport->parts_.open_faster != nullptr) {
    ENGRAM_ASSIGN_OR_RETURN(
        transport->ways_,
        FasterWays::Start(
            transport->parts_.open_faster,
            [raw = transport.get()](StoreId store, const std::string& address, FasterWay way) {
              raw->OnFasterOpened(store, address, std::move(way));
            },
            transport->clock()));
  }
  transport->parts_.directory->SetListener(transport.get());
  ENGRAM_RETURN_IF_ERROR(transport->TakeHoldings());
  return transport;
}

ClusterTransport::~ClusterTransport() {
  parts_.directory->SetListener(nullptr);
  ReapAll();
  {
    MutexLock lock(timer_mutex_);
    ending_ = true;
    if (wake_pending_) parts_.driver->CallOff(wake_event_);
  }
  parts_.driver->DriveOut([this] { return wake_told_.load(); });
  ways_.reset();  // so that nothing is opened any more
  // What stores were asked for ends, and tells its sink, as their transports go.
  std::map<StoreId, Link> links;
  std::vector<std::shared_ptr<Transport>> forgotten;
  {
    MutexLock lock(router_mutex_);
    links.swap(links_);
    forgotten.swap(forgotten_);
  }
  for (const auto& [store, link] : links) {
    if (link.transport != nullptr) forgotten.push_back(link.transport);
  }
  std::vector<std::pair<std::shared_ptr<Transport>, Ticket>> open;
  {
    MutexLock lock(router_mutex_);
    for (const auto& [attempt, sent] : sent_) {
      if (sent->has_ticket) open.emplace_back(sent->over, sent->ticket);
    }
  }
  for (const auto& [over, ticket] : open) over->Reap(ticket);
  open.clear();
  absl::flat_hash_map<AttemptId, std::unique_ptr<Sent>> sent;
  {
    MutexLock lock(router_mutex_);
    sent.swap(sent_);
  }
  sent.clear();
  links.clear();
  forgotten.clear();
}

std::string ClusterTransport::Describe() const {
  MutexLock lock(router_mutex_);
  const ClusterMap* const map = router_.map();
  std::string text =
      absl::StrCat("cluster (", Counted(map->pieces().size(), "partition"), " at ",
                   Counted(map->stores().size(), "store"), ": ", DescribeWays(), ")");
  const std::vector<RefusedStore> liars = router_.Liars();
  for (size_t i = 0; i < liars.size() && i < kLiarsNamed; ++i) {
    absl::StrAppend(&text, "; ", liars[i].why.message());
  }
  if (liars.size() > kLiarsNamed) {
    absl::StrAppend(&text, "; and ", liars.size() - kLiarsNamed, " more");
  }
  return text;
}

std::optional<RouterCounters> ClusterTransport::routing() const {
  const StoreDirectory::Refusals refusals = parts_.directory->refusals();
  MutexLock lock(router_mutex_);
  RouterCounters counters = router_.counters();
  counters.strangers = refusals.strangers;
  counters.left_out = refusals.left_out;
  return counters;
}

std::optional<ClusterView> ClusterTransport::cluster() const {
  ClusterView view;
  {
    MutexLock lock(router_mutex_);
    view = router_.View();
  }
  for (std::string& address : parts_.directory->Unheard()) {
    view.stores.push_back({std::move(address), StoreSight::kUnheard});
  }
  view.finds_addresses = parts_.directory->FindsAddresses();
  return view;
}

absl::Status ClusterTransport::Prepare(const BatchRequest& request) {
  return CheckBatch(request, parts_.table_set.manifest, capabilities_, clock());
}

absl::Status ClusterTransport::Start(const BatchRequest& request, TicketedBatch& ticketed) {
  auto& batch = static_cast<ClusterBatch&>(ticketed);
  CloseForgotten();
  const bool is_registered = IsRegistered(request);
  bool is_filled = false;
  while (true) {
    std::shared_ptr<const ClusterMap> map;
    {
      MutexLock lock(split_mutex_);
      map = splitter_->map();
      // Layers stand in every map as they do in the scheme.
      if (!std::exchange(is_filled, true)) {
        batch.Fill(request, parts_.table_set.manifest, *map);
      }
      ENGRAM_RETURN_IF_ERROR(batch.Split(*splitter_, is_registered));
    }
    MutexLock lock(router_mutex_);
    const absl::StatusOr<BatchId> id =
        router_.Submit(batch.ticket().number, map.get(), batch.parts(), batch.layers(),
                       request.deadline, clock().Now(), &actions_, is_registered);
    if (id.ok()) {
      batch.id = *id;
      break;
    }
    if (!absl::IsAborted(id.status())) return id.status();
  }
  Pump();
  return absl::OkStatus();
}

void ClusterTransport::Advance(TicketedBatch&) {
  // What came before a store's silence is judged.
  parts_.driver->TakeReady();
  MoveWritten();
  Tick();
  Pump();
}

void ClusterTransport::Drive(TicketedBatch& batch, const Awaited& awaited, MonotonicTime until) {
  while (true) {
    Pump();
    if (awaited.Reached()) return;
    MonotonicTime next;
    {
      MutexLock lock(router_mutex_);
      next = router_.NextTick(clock().Now());
    }
    const auto done = [&] { return awaited.Reached() || wants_pump_.load(); };
    bool reached = false;
    ++waiting_;
    if (MoveWritten()) {
      // No event of the driver's tells of written rows, so it is left now and then to look.
      const MonotonicTime end = std::min({until, next, clock().Now() + kWakeSpace});
      reached = done();
      const auto look = [&] {
        parts_.driver->TakeReady();
        MoveWritten();
        reached = done();
        if (!reached) sched_yield();
        return reached || clock().Now() >= end;
      };
      if (!reached) {
        written_spin_.Wait(look, [&] { reached = parts_.driver->DriveUntil(done, end); });
      }
    } else {
      reached = parts_.driver->DriveUntil(done, std::min(until, next));
    }
    --waiting_;
    // Rows that are found at the same look as a deadline count.
    if (!reached) Advance(batch);
    Pump();
    if (awaited.Reached() || clock().Now() >= until) return;
  }
}

void ClusterTransport::TryCancel(TicketedBatch& batch) {
  {
    MutexLock lock(router_mutex_);
    router_.Cancel(static_cast<ClusterBatch&>(batch).id, clock().Now(), &actions_);
  }
  Pump();
  parts_.driver->Kick();
}

void ClusterTransport::StoreSpoke(const std::string& address) {
  bool is_map_due = false;
  {
    MutexLock lock(router_mutex_);
    for (const auto& [store, link] : links_) {
      if (link.address == address) router_.Heard(store, clock().Now(), &actions_);
    }
    is_map_due = asked_.erase(address) > 0 && asked_.empty();
  }
  if (is_map_due) TakeHoldings().IgnoreError();
  WakeSoon();
}

void ClusterTransport::HoldingsChanged() {
  // One that cannot be made leaves the map before it.
  TakeHoldings().IgnoreError();
  {
    MutexLock lock(holdings_mutex_);
    ++holdings_version_;
    holdings_changed_.NotifyAll();
  }
  WakeSoon();
}

absl::Status ClusterTransport::TakeHoldings() {
  const Manifest& set = parts_.table_set.manifest;
  MutexLock take_lock(take_mutex_);  // the last map is of what was heard last
  ENGRAM_ASSIGN_OR_RETURN(std::shared_ptr<const ClusterMap> map,
                          ClusterMap::Create(set.id, set.scheme, parts_.directory->Heard()));
  {
    MutexLock lock(split_mutex_);
    splitter_ = std::make_unique<BatchSplitter>(map);
  }
  MutexLock lock(router_mutex_);
  router_.SetMap(std::move(map), clock().Now(), &actions_);
  asked_.clear();
  return absl::OkStatus();
}

absl::Status ClusterTransport::WaitSuperseded(std::stop_token stop) {
  const Manifest& set = parts_.table_set.manifest;
  std::stop_callback on_stop(stop, [this] {
    MutexLock lock(holdings_mutex_);
    holdings_changed_.NotifyAll();
  });
  while (true) {
    uint64_t version = 0;
    {
      MutexLock lock(holdings_mutex_);
      version = holdings_version_;
    }
    const absl::StatusOr<NamedSet> named = ResolveName(set.name, parts_.directory->Heard());
    if (stop.stop_requested()) return absl::CancelledError("the wait for another set was ended");
    if (named.ok() && named->set_id != set.id) return absl::OkStatus();
    if (absl::IsFailedPrecondition(named.status())) return named.status();
    MutexLock lock(holdings_mutex_);
    while (holdings_version_ == version && !stop.stop_requested()) {
      holdings_changed_.Wait(holdings_mutex_);
    }
  }
}

void ClusterTransport::Tick() {
  MutexLock lock(router_mutex_);
  router_.Tick(clock().Now(), &actions_);
}

// One timer for all: what is due, and what is to be pumped where nobody waits. While it runs it is
// a piece of the driver's work, so that somebody looks.
void ClusterTransport::WakeAt(MonotonicTime at) {
  MutexLock lock(timer_mutex_);
  if (ending_ || at.is_infinite() || (wake_pending_ && at >= wake_at_)) return;
  wake_at_ = at;
  if (std::exchange(wake_pending_, true)) {
    parts_.driver->CallOff(wake_event_);  // which is told at once
    return;
  }
  wake_told_ = false;
  parts_.driver->Begin(1);
  parts_.driver->SetTimer(at, wake_event_);
}

void ClusterTransport::WakeSoon() {
  {
    MutexLock lock(router_mutex_);
    if (actions_.empty() && ended_.empty()) return;
  }
  WakeAt(MonotonicTime());
}

void ClusterTransport::WakeAtNextTick() {
  const MonotonicTime now = clock().Now();
  MonotonicTime next;
  {
    MutexLock lock(router_mutex_);
    next = router_.NextTick(now);
    if (!written_.empty()) next = std::min(next, now);
  }
  WakeAt(next.is_infinite() ? next : std::max(next, now + kWakeSpace));
}

void ClusterTransport::OnWake(bool) {
  {
    MutexLock lock(timer_mutex_);
    wake_pending_ = false;
    wake_at_ = MonotonicTime::Infinite();
    if (ending_) {
      parts_.driver->Finish();
      wake_told_ = true;
      return;
    }
  }
  MoveWritten();
  Tick();
  Pump();
  WakeAtNextTick();
  parts_.driver->Finish();
  MutexLock lock(timer_mutex_);
  if (!wake_pending_) wake_told_ = true;
}

}  // namespace engram
