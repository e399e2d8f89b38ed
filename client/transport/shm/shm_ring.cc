#include "client/transport/shm/shm_ring.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "client/transport/batch_check.h"
#include "client/transport/failure_mark.h"
#include "memstore/base/message_line.h"
#include "memstore/base/status_macros.h"
#include "memstore/os/futex.h"

namespace engram {
namespace {

// How long a sleeper goes without looking whether the owner is still there, and whether its ticket
// was cancelled.
constexpr absl::Duration kSleep = absl::Milliseconds(50);
// A batch is kept to be used again with ids of at most so many bytes, a prefill's of ten thousand
// tokens.
constexpr size_t kSpareBytes = 4 << 20;

}  // namespace

bool ShmRingTransport::Batch::MayBeKept() const {
  return ids.capacity() * sizeof(RowId) + places.capacity() * sizeof(uint32_t) <= kSpareBytes;
}

ShmRingTransport::ShmRingTransport(ForkMark mark, ShmAttachment attachment, Clock& clock)
    : TicketedTransport({.clock = &clock}),
      mark_(std::move(mark)),
      attachment_(std::move(attachment)),
      ring_(attachment_.memory.front().data()),
      capabilities_{.name = "shm-ring",
                    .lands_asynchronously = true,
                    .max_batch_rows = attachment_.max_batch_rows,
                    .lands_at_places = true,
                    .owner_version = attachment_.owner_version} {
  queue_.reserve(kMaxOpenTickets);
}

ShmRingTransport::~ShmRingTransport() {
  if (!mark_.InForkedChild()) {
    ReapAll();
    return;
  }
  Disown();
  attachment_.control.Abandon();
  for (Mapping& region : attachment_.memory) region.Abandon();
}

absl::Status ShmRingTransport::Prepare(const BatchRequest& request) {
  return CheckBatch(request, attachment_.attached.manifest, capabilities_, clock());
}

// The batch's ids and places are copied: the caller's may go once Submit returns.
void ShmRingTransport::Take(const BatchRequest& request, Batch& batch) {
  batch.number = ++batches_;
  batch.progress.clear();
  batch.ids.clear();
  batch.places.clear();
  batch.next_layer = 0;
  for (const LayerRequest& layer : request.layers) {
    batch.progress.push_back(
        {.layer = layer.layer,
         .row_bytes = attachment_.attached.manifest.FindLayer(layer.layer)->row_bytes,
         .first_id = batch.ids.size(),
         .rows = layer.row_ids.size(),
         .landing = layer.landing});
    batch.ids.insert(batch.ids.end(), layer.row_ids.begin(), layer.row_ids.end());
    const absl::Span<const uint32_t> places = layer.landing.places;
    batch.places.insert(batch.places.end(), places.begin(), places.end());
  }
  size_t at = 0;
  for (LayerProgress& layer : batch.progress) {
    const size_t listed = layer.landing.places.size();
    layer.landing.places = absl::MakeConstSpan(batch.places).subspan(at, listed);
    at += listed;
  }
  SkipSubmitted(batch);
}

void ShmRingTransport::SkipSubmitted(Batch& batch) {
  const auto all = [](const LayerProgress& layer) { return layer.submitted == layer.rows; };
  while (batch.next_layer < batch.progress.size() && all(batch.progress[batch.next_layer])) {
    ++batch.next_layer;
  }
}

absl::Status ShmRingTransport::Start(const BatchRequest& request, TicketedBatch& batch) {
  TicketLock lock(*this);
  ENGRAM_RETURN_IF_ERROR(broken_);
  ENGRAM_RETURN_IF_ERROR(
      MayBegin(attachment_.control.Read().state, attachment_.attached.manifest.id));
  auto& own = static_cast<Batch&>(batch);
  Take(request, own);
  queue_.push_back(&own);
  MoveAlong();
  return absl::OkStatus();
}

void ShmRingTransport::MoveAlong() {
  if (!broken_.ok()) return;
  TakeRows();
  FillSlots();
  // Read last: slots that were completed before the owner closed the ring count.
  const uint32_t closed = ring_.header().closed.load(std::memory_order_acquire);
  if (closed == 0 || !broken_.ok()) return;
  TakeRows();
  Break(absl::Status(static_cast<absl::StatusCode>(closed),
                     closed == static_cast<uint32_t>(absl::StatusCode::kUnavailable)
                         ? "engramd has stopped serving this ring: attach again"
                         : "engramd refused the ring's state: attach again"));
}

void ShmRingTransport::TakeRows() {
  const uint32_t completed = ring_.header().completed.load();
  if (completed - taken_ > submitted_ - taken_) {
    return Break(absl::InternalError("the ring's counts are wrong: attach again"));
  }
  while (taken_ != completed && broken_.ok()) {
    const SlotAssignment assigned = std::exchange(assigned_[taken_ % kRingSlots], {});
    const uint32_t number = taken_++;
    ++slots_taken_;
    if (assigned.batch != nullptr && assigned.batch->in_flight()) TakeSlot(number, assigned);
  }
}

void ShmRingTransport::TakeSlot(uint32_t number, const SlotAssignment& assigned) {
  Batch& batch = *assigned.batch;
  const RingSlot& slot = ring_.slot(number);
  const uint32_t code = slot.code.load(std::memory_order_relaxed);
  if (slot.completed_sequence.load(std::memory_order_relaxed) != number) {
    Fail(batch, absl::InternalError("a slot of the ring answers another one: attach again"));
    return Break(absl::InternalError("a slot of the ring answers another one: attach again"));
  }
  if (code != 0) {
    const uint32_t bytes = slot.message_bytes.load(std::memory_order_relaxed);
    Fail(batch, absl::Status(static_cast<absl::StatusCode>(code),
                             MessageLine({slot.message, std::min(bytes, kRingMessageBytes)})));
    return;
  }
  LayerProgress& layer = batch.progress[assigned.layer];
  const std::byte* const rows = ring_.rows(number);
  const size_t end = assigned.first + assigned.rows;
  layer.landing.ForEachRun(assigned.first, end, layer.row_bytes,
                           [&](std::byte* place, uint64_t first, uint64_t count) {
                             std::memcpy(place, rows + (first - assigned.first) * layer.row_bytes,
                                         count * layer.row_bytes);
                           });
  layer.landed += assigned.rows;
  if (layer.landed == layer.rows) LandLayer(batch, assigned.layer);
}

void ShmRingTransport::FillSlots() {
  const uint32_t before = submitted_;
  while (!queue_.empty() && submitted_ - taken_ < kRingSlots) {
    Batch& batch = *queue_.front();
    if (!batch.in_flight() || batch.next_layer == batch.progress.size()) {
      queue_.erase(queue_.begin());
    } else {
      FillSlot(batch);
    }
  }
  if (submitted_ == before) return;
  RingHeader& header = ring_.header();
  header.submitted.store(submitted_);
  // Either the owner sees the slots before it sleeps, or this side sees that it does.
  if (header.owner_sleeps.load() == 0) return;
  header.doorbell.fetch_add(1);
  FutexWakeAll(header.doorbell);
}

void ShmRingTransport::FillSlot(Batch& batch) {
  LayerProgress& layer = batch.progress[batch.next_layer];
  const size_t rows = std::min<size_t>(layer.rows - layer.submitted, RingSlotRows(layer.row_bytes));
  std::memcpy(ring_.ids(submitted_), &batch.ids[layer.first_id + layer.submitted],
              rows * sizeof(RowId));
  RingSlot& slot = ring_.slot(submitted_);
  slot.sequence.store(submitted_, std::memory_order_relaxed);
  slot.layer.store(layer.layer, std::memory_order_relaxed);
  slot.rows.store(static_cast<uint32_t>(rows), std::memory_order_relaxed);
  slot.batch.store(batch.number, std::memory_order_relaxed);
  assigned_[submitted_ % kRingSlots] = {&batch, batch.next_layer, layer.submitted, rows};
  ++submitted_;
  layer.submitted += rows;
  SkipSubmitted(batch);
}

void ShmRingTransport::Break(absl::Status status) {
  if (!broken_.ok()) return;
  broken_ = std::move(status);
  MarkBroken(&broken_);  // the ring is of no more use to anybody
  for (SlotAssignment& assigned : assigned_) {
    if (assigned.batch != nullptr) Fail(*assigned.batch, broken_);
    assigned.batch = nullptr;
  }
  for (Batch* const batch : queue_) Fail(*batch, broken_);
  queue_.clear();
}

void ShmRingTransport::Advance(TicketedBatch& batch) {
  TicketLock lock(*this);
  MoveAlong();
  if (!batch.in_flight()) return;
  // A caller that only polls learns all the same that the owner is gone.
  const MonotonicTime now = clock().Now();
  if (now < next_look_) return;
  next_look_ = now + kSleep;
  if (OwnerIsGone()) BreakAsGone();
}

void ShmRingTransport::Drive(TicketedBatch&, const Awaited& awaited, MonotonicTime until) {
  uint32_t seen = 0;
  {
    TicketLock lock(*this);
    MoveAlong();
    seen = taken_;
  }
  if (!awaited.Reached()) SleepOn(seen, until);
}

void ShmRingTransport::SleepOn(uint32_t seen, MonotonicTime until) {
  RingHeader& header = ring_.header();
  const auto changed = [&] {
    return header.completed.load(std::memory_order_relaxed) != seen ||
           header.closed.load(std::memory_order_relaxed) != 0;
  };
  bool looked = false;
  spin_.Wait([&] { return looked = LookWithPauses(changed); },
             [&] {
               const absl::Duration left = std::min(kSleep, until - clock().Now());
               header.client_sleeps.fetch_add(1);
               if (header.closed.load() == 0) FutexWait(header.completed, seen, left);
               header.client_sleeps.fetch_sub(1);
             });
  if (looked || changed() || !OwnerIsGone()) return;
  TicketLock lock(*this);
  BreakAsGone();
}

// An owner that was killed says nothing, but its socket is closed.
bool ShmRingTransport::OwnerIsGone() const {
  if (!attachment_.socket.is_open()) return false;
  char byte = 0;
  const ssize_t got = recv(attachment_.socket.get(), &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

void ShmRingTransport::BreakAsGone() {
  TakeRows();
  Break(absl::UnavailableError("the engramd that served this ring is gone: attach again"));
}

void ShmRingTransport::TryCancel(TicketedBatch&) { FutexWakeAll(ring_.header().completed); }

void ShmRingTransport::Forget(TicketedBatch& batch) {
  auto* const own = static_cast<Batch*>(&batch);
  for (SlotAssignment& assigned : assigned_) {
    if (assigned.batch == own) assigned.batch = nullptr;
  }
  queue_.erase(std::remove(queue_.begin(), queue_.end(), own), queue_.end());
}

}  // namespace engram
