#include "client/transport/shm/shm_ring.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/transport/batch_check.h"
#include "memstore/base/clock.h"
#include "memstore/os/futex.h"

namespace engram {
namespace {

// A token's rows come within this time when the owner is awake.
constexpr absl::Duration kSpin = absl::Microseconds(50);
// How long a sleeper goes without looking whether the owner is still there, and whether its ticket
// was cancelled.
constexpr absl::Duration kSleep = absl::Milliseconds(50);
// Batches kept to be used again: more than a worker has open as a rule, each with ids of at most so
// many bytes, a prefill's of ten thousand tokens.
constexpr size_t kSpareBatches = 16;
constexpr size_t kSpareBytes = 4 << 20;

// Rows [first, first + count), which lie back to back, to the places they have in their layer.
void Land(const std::byte* rows, size_t first, size_t count, uint32_t row_bytes,
          const Landing& landing) {
  if (landing.group_rows == 0) {
    std::memcpy(landing.data + first * row_bytes, rows, count * row_bytes);
    return;
  }
  while (count > 0) {
    const uint64_t group = first / landing.group_rows;
    const uint64_t in_group = first % landing.group_rows;
    const size_t run = std::min<size_t>(count, landing.group_rows - in_group);
    std::memcpy(landing.data + group * landing.group_stride_bytes + in_group * row_bytes, rows,
                run * row_bytes);
    rows += run * row_bytes;
    first += run;
    count -= run;
  }
}

}  // namespace

ShmRingTransport::ShmRingTransport(ForkMark mark, ShmAttachment attachment)
    : mark_(std::move(mark)),
      attachment_(std::move(attachment)),
      ring_(attachment_.memory.front().data()),
      capabilities_{.name = "shm-ring",
                    .lands_asynchronously = true,
                    .max_batch_rows = attachment_.max_batch_rows} {
  queue_.reserve(kMaxOpenTickets);
  spare_.reserve(kSpareBatches);
}

ShmRingTransport::~ShmRingTransport() {
  if (!mark_.InForkedChild()) return;  // nothing else writes to a buffer: all are reaped now
  attachment_.control.Abandon();
  for (Mapping& region : attachment_.memory) region.Abandon();
}

// A batch of the transport's own, with the ids copied.
std::shared_ptr<ShmRingTransport::Batch> ShmRingTransport::Take(const BatchRequest& request) {
  std::shared_ptr<Batch> batch;
  if (spare_.empty()) {
    batch = std::make_shared<Batch>();
  } else {
    batch = std::move(spare_.back());
    spare_.pop_back();
  }
  batch->number = ++batches_;
  batch->deadline = request.deadline;
  batch->state = TicketState::kInFlight;
  batch->status = absl::OkStatus();
  batch->parts.clear();
  batch->ids.clear();
  batch->next_part = 0;
  for (const LayerRequest& layer : request.layers) {
    batch->parts.push_back(
        {.layer = layer.layer,
         .row_bytes = attachment_.attached.manifest.FindLayer(layer.layer)->row_bytes,
         .first_id = batch->ids.size(),
         .rows = layer.row_ids.size(),
         .landing = layer.landing});
    batch->ids.insert(batch->ids.end(), layer.row_ids.begin(), layer.row_ids.end());
  }
  batch->to_land = batch->ids.size();
  return batch;
}

absl::StatusOr<Ticket> ShmRingTransport::Submit(const BatchRequest& request) {
  absl::Status status = mark_.Check();
  if (status.ok()) {
    status = CheckBatch(request, attachment_.attached.manifest, capabilities_.max_batch_rows);
  }
  if (!status.ok()) return status;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!broken_.ok()) return broken_;
  status = MayBegin(attachment_.control.Read().state, attachment_.attached.manifest.id);
  if (!status.ok()) return status;
  std::shared_ptr<Batch> batch = Take(request);
  absl::StatusOr<Ticket> ticket = tickets_.Open(batch);
  if (!ticket.ok()) return ticket;
  queue_.push_back(std::move(batch));
  Advance();
  return ticket;
}

void ShmRingTransport::Advance() {
  if (!broken_.ok()) return;
  TakeRows();
  SubmitPieces();
  // Read last: pieces that were completed before the owner closed the ring count.
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
  while (taken_ != completed) {
    Piece& piece = pieces_[taken_ % kRingSlots];
    const std::shared_ptr<Batch> batch = std::exchange(piece.batch, nullptr);
    const uint32_t number = taken_++;
    if (batch == nullptr || batch->state != TicketState::kInFlight) continue;
    const RingSlot& slot = ring_.slot(number);
    const uint32_t code = slot.code.load(std::memory_order_relaxed);
    if (slot.completed_sequence.load(std::memory_order_relaxed) != number) {
      return Break(absl::InternalError("a slot of the ring answers another piece: attach again"));
    }
    if (code != 0) {
      const uint32_t bytes = slot.message_bytes.load(std::memory_order_relaxed);
      Fail(*batch, absl::Status(static_cast<absl::StatusCode>(code),
                                std::string(slot.message, std::min(bytes, kRingMessageBytes))));
      continue;
    }
    Part& part = batch->parts[piece.part];
    Land(ring_.rows(number), piece.first, piece.rows, part.row_bytes, part.landing);
    part.landed += piece.rows;
    batch->to_land -= piece.rows;
    if (batch->to_land == 0) batch->state = TicketState::kLanded;
  }
}

void ShmRingTransport::SubmitPieces() {
  const uint32_t before = submitted_;
  while (!queue_.empty() && submitted_ - taken_ < kRingSlots) {
    const std::shared_ptr<Batch> batch = queue_.front();
    const bool done =
        batch->state != TicketState::kInFlight || batch->next_part == batch->parts.size();
    if (done) {
      queue_.erase(queue_.begin());
    } else {
      FillSlot(batch);
    }
  }
  if (submitted_ == before) return;
  RingHeader& header = ring_.header();
  header.submitted.store(submitted_);
  // Either the owner sees the pieces before it sleeps, or this side sees that it does.
  if (header.owner_sleeps.load() == 0) return;
  header.doorbell.fetch_add(1);
  FutexWakeAll(header.doorbell);
}

void ShmRingTransport::FillSlot(const std::shared_ptr<Batch>& batch) {
  Part& part = batch->parts[batch->next_part];
  const size_t rows = std::min<size_t>(part.rows - part.submitted, RingSlotRows(part.row_bytes));
  std::memcpy(ring_.ids(submitted_), &batch->ids[part.first_id + part.submitted],
              rows * sizeof(RowId));
  RingSlot& slot = ring_.slot(submitted_);
  slot.sequence.store(submitted_, std::memory_order_relaxed);
  slot.layer.store(part.layer, std::memory_order_relaxed);
  slot.rows.store(static_cast<uint32_t>(rows), std::memory_order_relaxed);
  slot.batch.store(batch->number, std::memory_order_relaxed);
  pieces_[submitted_ % kRingSlots] = {batch, batch->next_part, part.submitted, rows};
  ++submitted_;
  part.submitted += rows;
  if (part.submitted == part.rows) ++batch->next_part;
}

void ShmRingTransport::Fail(Batch& batch, absl::Status status) {
  if (batch.state != TicketState::kInFlight) return;
  batch.state = TicketState::kFailedLent;
  batch.status = std::move(status);
}

void ShmRingTransport::FailIfLate(Batch& batch, MonotonicTime now) {
  if (batch.deadline > now) return;
  Fail(batch, absl::DeadlineExceededError("the deadline passed before every row had landed"));
}

void ShmRingTransport::Break(absl::Status status) {
  if (!broken_.ok()) return;
  broken_ = std::move(status);
  for (Piece& piece : pieces_) {
    if (piece.batch != nullptr) Fail(*piece.batch, broken_);
    piece.batch = nullptr;
  }
  for (const std::shared_ptr<Batch>& batch : queue_) Fail(*batch, broken_);
  queue_.clear();
}

TicketState ShmRingTransport::Poll(Ticket ticket) {
  if (mark_.InForkedChild()) return TicketState::kReaped;
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  if (batch == nullptr) return TicketState::kReaped;
  Advance();
  if (batch->state != TicketState::kInFlight) return batch->state;
  // A caller that only polls learns all the same of what never comes.
  const MonotonicTime now = RealClock().Now();
  FailIfLate(*batch, now);
  if (now >= next_look_) {
    next_look_ = now + kSleep;
    if (OwnerIsGone()) BreakAsGone();
  }
  return batch->state;
}

absl::Status ShmRingTransport::Wait(Ticket ticket) { return WaitUntil(ticket, SIZE_MAX); }

absl::Status ShmRingTransport::WaitLayer(Ticket ticket, size_t index) {
  return WaitUntil(ticket, index);
}

// Until the part that stands at `index` has landed, or with SIZE_MAX all have.
absl::Status ShmRingTransport::WaitUntil(Ticket ticket, size_t index) {
  if (absl::Status status = mark_.Check(); !status.ok()) return status;
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
    if (batch == nullptr) {
      return absl::FailedPreconditionError("the ticket was reaped, or never given out");
    }
    Advance();
    if (index < batch->parts.size() && batch->parts[index].landed == batch->parts[index].rows) {
      return absl::OkStatus();
    }
    FailIfLate(*batch, RealClock().Now());
    if (batch->state == TicketState::kLanded) return absl::OkStatus();
    if (batch->state == TicketState::kFailedLent) return batch->status;
    const uint32_t seen = taken_;
    const MonotonicTime deadline = batch->deadline;
    lock.unlock();
    SleepOn(seen, deadline);
    lock.lock();
  }
}

void ShmRingTransport::SleepOn(uint32_t seen, MonotonicTime deadline) {
  RingHeader& header = ring_.header();
  static const bool kCoresToSpare = std::thread::hardware_concurrency() > 1;
  const auto changed = [&] {
    return header.completed.load(std::memory_order_relaxed) != seen ||
           header.closed.load(std::memory_order_relaxed) != 0;
  };
  if (SpinUntil(changed, kCoresToSpare ? kSpin : absl::ZeroDuration())) return;
  const absl::Duration left = std::min(kSleep, deadline - RealClock().Now());
  header.client_sleeps.fetch_add(1);
  if (header.closed.load() == 0) FutexWait(header.completed, seen, left);
  header.client_sleeps.fetch_sub(1);
  if (changed() || !OwnerIsGone()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
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

void ShmRingTransport::Cancel(Ticket ticket) {
  if (mark_.InForkedChild()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<Batch> batch = tickets_.Find(ticket);
  if (batch == nullptr || batch->state != TicketState::kInFlight) return;
  Fail(*batch, absl::CancelledError("the batch was cancelled"));
  FutexWakeAll(ring_.header().completed);
}

void ShmRingTransport::Reap(Ticket ticket) {
  if (mark_.InForkedChild()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::shared_ptr<Batch> batch = tickets_.Close(ticket);
  if (batch == nullptr) return;
  batch->state = TicketState::kReaped;  // who waits for it all the same finds no such ticket
  LetGo(batch);
}

// Nothing refers to the batch after it: it can be used for another.
void ShmRingTransport::LetGo(const std::shared_ptr<Batch>& batch) {
  for (Piece& piece : pieces_) {
    if (piece.batch == batch) piece.batch = nullptr;
  }
  queue_.erase(std::remove(queue_.begin(), queue_.end(), batch), queue_.end());
  if (spare_.size() < kSpareBatches && batch->ids.capacity() * sizeof(RowId) <= kSpareBytes) {
    spare_.push_back(batch);
  }
}

}  // namespace engram
