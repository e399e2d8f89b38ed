#include "server/shm/ring_worker.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "memstore/gather/gather.h"
#include "memstore/os/futex.h"
#include "memstore/os/thread.h"
#include "memstore/partition/held_check.h"

namespace engram {
namespace {

// A client that asks for the next token's rows comes back within this time, and waking a thread
// costs about half as much.
constexpr absl::Duration kSpin = absl::Microseconds(50);
// Only a client that unrings the bell just when the thread lies down delays anything by it.
constexpr absl::Duration kLongestSleep = absl::Seconds(1);

}  // namespace

absl::StatusOr<std::unique_ptr<RingWorker>> RingWorker::Start(
    Mapping region, ServedSet served, uint32_t number, RingCount* count,
    std::shared_ptr<ThreadMetrics> metrics, std::function<void()> on_broken, const Clock* clock) {
  std::unique_ptr<RingWorker> worker(new RingWorker(std::move(region), std::move(served), count,
                                                    std::move(metrics), std::move(on_broken),
                                                    clock));
  ENGRAM_ASSIGN_OR_RETURN(worker->thread_, StartThread(absl::StrCat("engram-ring/", number),
                                                       [raw = worker.get()] { raw->Run(); }));
  return worker;
}

RingWorker::RingWorker(Mapping region, ServedSet served, RingCount* count,
                       std::shared_ptr<ThreadMetrics> metrics, std::function<void()> on_broken,
                       const Clock* clock)
    : region_(std::move(region)),
      ring_(region_.data()),
      served_(std::move(served)),
      count_(count),
      metrics_(std::move(metrics)),
      on_broken_(std::move(on_broken)),
      clock_(clock),
      spin_(kSpin),
      ids_(kRingSlotIds) {
  auto* const header = new (region_.data()) RingHeader{};
  std::memcpy(header->magic, kRingMagic, sizeof(kRingMagic));
  header->version = kRingVersion;
  header->slots = kRingSlots;
  for (uint32_t piece = 0; piece < kRingSlots; ++piece) new (&ring_.slot(piece)) RingSlot{};
  count_->fetch_add(1);
}

RingWorker::~RingWorker() {
  stop_.store(true);
  ring_.header().doorbell.fetch_add(1);
  FutexWakeAll(ring_.header().doorbell);
  if (thread_.joinable()) thread_.join();
  Close(absl::StatusCode::kUnavailable);
  count_->fetch_sub(1);
}

void RingWorker::Close(absl::StatusCode code) {
  uint32_t open = 0;
  ring_.header().closed.compare_exchange_strong(open, static_cast<uint32_t>(code));
  FutexWakeAll(ring_.header().completed);
}

void RingWorker::Run() {
  while (!stop_.load()) {
    const uint32_t submitted = ring_.header().submitted.load(std::memory_order_acquire);
    if (submitted == completed_) {
      WaitForWork();
      continue;
    }
    if (submitted - completed_ > kRingSlots) {  // moved backwards, or over slots still taken
      Close(absl::StatusCode::kInvalidArgument);
      on_broken_();
      return;
    }
    ServeCounted(completed_);
  }
}

void RingWorker::WaitForWork() {
  RingHeader& header = ring_.header();
  const auto there_is_some = [&] {
    return stop_.load(std::memory_order_relaxed) ||
           header.submitted.load(std::memory_order_relaxed) != completed_;
  };
  spin_.Wait([&] { return LookWithPauses(there_is_some); },
             [&] {
               // Either the client sees that this side sleeps and rings, or this side sees what it
               // submitted.
               const uint32_t bell = header.doorbell.load();
               header.owner_sleeps.store(1);
               if (!stop_.load() && header.submitted.load() == completed_) {
                 FutexWait(header.doorbell, bell, kLongestSleep);
               }
               header.owner_sleeps.store(0);
             });
}

// Everything of a piece that the client wrote, read once: its layer and ids_, checked.
absl::StatusOr<const LoadedLayer*> RingWorker::CopyOut(uint32_t piece) {
  const RingSlot& slot = ring_.slot(piece);
  const uint32_t sequence = slot.sequence.load(std::memory_order_relaxed);
  const uint32_t layer_number = slot.layer.load(std::memory_order_relaxed);
  const uint32_t rows = slot.rows.load(std::memory_order_relaxed);
  const uint64_t batch = slot.batch.load(std::memory_order_relaxed);
  if (sequence != piece) {
    return absl::InvalidArgumentError(
        absl::StrCat("a slot holds piece ", sequence, " where ", piece, " was submitted"));
  }
  const LoadedLayer* const layer = served_.set->FindLayer(layer_number);
  if (layer == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer_number, " is not in table set ", served_.set->name()));
  }
  const uint32_t most = RingSlotRows(layer->table.row_bytes);
  if (rows == 0 || rows > most) {
    return absl::InvalidArgumentError(
        absl::StrCat(rows, " rows in one piece: 1 to ", most, " go into a slot"));
  }
  if (!batch_began_ || batch != batch_) {
    ENGRAM_RETURN_IF_ERROR(MayBegin(served_.control->Read().state, served_.set->id()));
    batch_ = batch;
    batch_began_ = true;
  }
  ids_.resize(rows);
  std::memcpy(ids_.data(), ring_.ids(piece), rows * sizeof(RowId));
  // The compiler may not go back to the region for what it finds in ids_.
  asm volatile("" : : "r"(ids_.data()) : "memory");
  ENGRAM_RETURN_IF_ERROR(CheckRowIds<RowId>(layer->table, ids_));
  const auto index = static_cast<size_t>(layer - served_.set->layers().data());
  ENGRAM_RETURN_IF_ERROR(CheckHeldRows<RowId>(served_.set->held()[index],
                                              served_.set->manifest().scheme.layers[index], ids_));
  return layer;
}

absl::StatusOr<const LoadedLayer*> RingWorker::Serve(uint32_t piece) {
  absl::StatusOr<const LoadedLayer*> layer = CopyOut(piece);
  if (!layer.ok()) return layer;
  Gather<RowId>((*layer)->table, ids_, {.data = ring_.rows(piece)});
  std::atomic_signal_fence(
      std::memory_order_seq_cst);  // x86 keeps loads in order, compilers do not
  ENGRAM_RETURN_IF_ERROR(MayFinish(served_.control->Read().state, served_.set->id()));
  return layer;
}

// Each piece counts as a request.
void RingWorker::ServeCounted(uint32_t piece) {
  const MonotonicTime begin = clock_->Now();
  metrics_->Began();
  const absl::StatusOr<const LoadedLayer*> layer = Serve(piece);
  const uint64_t rows = layer.ok() ? ids_.size() : 0;
  Complete(piece, layer.status());
  const auto took = absl::ToChronoNanoseconds(clock_->Now() - begin);
  // It waits in no queue, and rows are sent by being gathered.
  metrics_->RecordLatency(Stage::kGather, took);
  metrics_->Answered(Path::kShmRing, layer.status().code(), rows,
                     rows == 0 ? 0 : rows * (*layer)->table.row_bytes, took);
}

void RingWorker::Complete(uint32_t piece, const absl::Status& status) {
  RingSlot& slot = ring_.slot(piece);
  const absl::string_view message = status.message().substr(0, kRingMessageBytes);
  std::copy(message.begin(), message.end(), slot.message);
  slot.message_bytes.store(static_cast<uint32_t>(message.size()), std::memory_order_relaxed);
  slot.code.store(static_cast<uint32_t>(status.code()), std::memory_order_relaxed);
  slot.completed_sequence.store(piece, std::memory_order_relaxed);
  completed_ = piece + 1;
  RingHeader& header = ring_.header();
  header.completed.store(completed_);
  if (header.client_sleeps.load() != 0) FutexWakeAll(header.completed);
}

}  // namespace engram
