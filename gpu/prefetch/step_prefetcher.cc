#include "gpu/prefetch/step_prefetcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gpu/prefetch/mapped_fetch.h"
#include "gpu/prefetch/prefetcher_checks.h"
#include "gpu/prefetch/transport_fetch.h"
#include "memstore/os/thread.h"

namespace engram {
namespace {

// Reap ends within kReapTime; a busy machine may take this much longer to say so.
constexpr absl::Duration kBusyMachine = absl::Milliseconds(500);

absl::Status NotPrefetched(const StepTicket& ticket, uint64_t last_step) {
  if (ticket.step == 0 || ticket.step > last_step) {
    return absl::FailedPreconditionError(
        absl::StrCat("step ", ticket.step, " was not prefetched: call Prefetch first"));
  }
  return absl::FailedPreconditionError(absl::StrCat("step ", ticket.step, " is finished already"));
}

absl::Status Cancelled(const StepTicket& ticket) {
  return absl::CancelledError(absl::StrCat("step ", ticket.step, " was cancelled"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Prefetcher>> Prefetcher::Create(Transport& transport, Device& device,
                                                               const PrefetcherOptions& options) {
  absl::Status status = CheckPrefetcherOptions(options, transport.table_set().manifest);
  if (!status.ok()) return status;
  return StepPrefetcher::Make(transport, device, options);
}

absl::StatusOr<std::unique_ptr<Prefetcher>> StepPrefetcher::Make(Transport& transport,
                                                                 Device& device,
                                                                 const PrefetcherOptions& options) {
  std::unique_ptr<StepPrefetcher> made(new StepPrefetcher(transport, device, options));
  const AttachedTableSet& set = transport.table_set();
  absl::Span<const int32_t> images = set.image_token_ids;
  if (options.allow_unmasked_images) images = {};
  absl::StatusOr<std::shared_ptr<const Addresser>> addresser = Addresser::Create(
      set.manifest.scheme, set.token_map, ShortSetId::Of(set.manifest.id), images);
  if (!addresser.ok()) return addresser.status();
  made->addresser_ = *std::move(addresser);
  absl::Status status = made->MakeSlots();
  if (status.ok()) status = made->MakeFetch();
  if (status.ok()) status = made->StartThreads();
  if (!status.ok()) return status;
  return std::unique_ptr<Prefetcher>(std::move(made));
}

StepPrefetcher::StepPrefetcher(Transport& transport, Device& device,
                               const PrefetcherOptions& options)
    : transport_(transport),
      device_(device),
      options_(options),
      layout_(transport.table_set().manifest, options),
      issue_queue_(options.slots),
      land_queue_(options.slots) {
  for (const StepLayout::Layer& layer : layout_.layers) layer_numbers_.push_back(layer.layer);
}

absl::Status StepPrefetcher::MakeSlots() {
  const size_t layers = layout_.layers.size();
  const size_t words = options_.slots * layers;
  absl::StatusOr<DeviceBuffer> memory =
      device_.Allocate(MemoryKind::kPinnedHost, words * kStatusWordStride * sizeof(uint32_t));
  if (!memory.ok()) return memory.status();
  words_ = *std::move(memory);
  memory = device_.Allocate(MemoryKind::kDevice, words * sizeof(uint32_t));
  if (!memory.ok()) return memory.status();
  device_words_ = *std::move(memory);
  for (uint32_t i = 0; i < options_.slots; ++i) {
    auto* const first = words_.as<std::atomic<uint32_t>>() + i * layers * kStatusWordStride;
    slots_.push_back(std::make_unique<StepSlot>(device_, first, layer_numbers_, *options_.clock));
    absl::Status status = AllocateSlot(device_, layout_, options_, slots_.back().get());
    if (!status.ok()) return status;
    if (options_.path == FetchPath::kMapped || layout_.columns == 0) continue;
    const absl::Span<std::byte> landing(slots_.back()->landing, layout_.fetched_bytes);
    status = transport_.Register(landing);
    if (!status.ok()) return status;
    registered_.push_back(landing);
  }
  return absl::OkStatus();
}

absl::Status StepPrefetcher::MakeFetch() {
  for (auto [name, stream] : {std::pair("engram-ids", &ids_stream_), {"engram-side", &side_}}) {
    absl::StatusOr<std::unique_ptr<Stream>> made = device_.MakeStream(name);
    if (!made.ok()) return made.status();
    *stream = *std::move(made);
  }
  if (options_.path == FetchPath::kTransport) {
    auto fetch =
        std::make_unique<TransportFetch>(transport_, *addresser_, layout_, options_, *side_);
    if (options_.hot_cache_bytes > 0 && layout_.columns > 0) {
      absl::Status status = fetch->AddHotCache(options_.hot_cache_bytes, device_);
      if (!status.ok()) return status;
    }
    fetch_ = std::move(fetch);
    return absl::OkStatus();
  }
  absl::StatusOr<std::unique_ptr<RowFetch>> mapped =
      MappedFetch::Make(transport_, device_, *addresser_, layout_, options_, *side_);
  if (!mapped.ok()) return mapped.status();
  fetch_ = *std::move(mapped);
  return absl::OkStatus();
}

absl::Status StepPrefetcher::StartThreads() {
  std::vector<StepState*> states;
  states.reserve(slots_.size());
  for (const std::unique_ptr<StepSlot>& slot : slots_) states.push_back(&slot->state);
  absl::StatusOr<std::unique_ptr<DeadlineWatch>> watch =
      DeadlineWatch::Start(std::move(states), *options_.clock);
  if (!watch.ok()) return watch.status();
  watch_ = *std::move(watch);
  absl::StatusOr<std::thread> thread = StartThread("engram-issue", [this] { Issue(); });
  if (!thread.ok()) return thread.status();
  issuer_ = *std::move(thread);
  thread = StartThread("engram-land", [this] { Land(); });
  if (!thread.ok()) return thread.status();
  lander_ = *std::move(thread);
  return absl::OkStatus();
}

StepPrefetcher::~StepPrefetcher() {
  for (const std::unique_ptr<StepSlot>& slot : slots_) {
    if (!slot->finished) Cancel({.step = slot->step, .slot = 0});
  }
  issue_queue_.Close();
  if (issuer_.joinable()) issuer_.join();
  land_queue_.Close();
  if (lander_.joinable()) lander_.join();
  for (const absl::Span<std::byte> buffer : registered_) {
    transport_.Unregister(buffer).IgnoreError();  // it goes with the transport at the latest
  }
}

void StepPrefetcher::Issue() {
  while (StepSlot* const slot = issue_queue_.Pop()) {
    const uint64_t step = slot->step;
    LandLayersOfNoColumns(*slot);
    if (fetch_->Issue(*slot)) {
      land_queue_.Push(slot);
    } else {
      slot->state.Release(step);
    }
  }
}

void StepPrefetcher::LandLayersOfNoColumns(StepSlot& slot) {
  absl::Status status;
  // Where no other layer's rows are looked for, nobody else looks at the step's ids and states.
  if (layout_.columns == 0 && slot.device_row_ids == nullptr) {
    status = AddressLayer(*addresser_, layout_, 0, &slot);
  }
  for (size_t i = 0; i < layout_.layers.size(); ++i) {
    if (layout_.layers[i].columns == 0) slot.state.End(slot.step, i, status);
  }
}

void StepPrefetcher::Land() {
  while (StepSlot* const slot = land_queue_.Pop()) {
    const uint64_t step = slot->step;
    fetch_->Land(*slot);
    slot->state.Release(step);
  }
}

absl::StatusOr<StepTicket> StepPrefetcher::Prefetch(const Step& step) {
  absl::Status status = CheckStep(step);
  if (!status.ok()) return status;
  const uint64_t number = last_step_ + 1;
  const auto index = static_cast<uint32_t>(number % options_.slots);
  StepSlot& slot = *slots_[index];
  if (!slot.finished) {
    return absl::FailedPreconditionError(absl::StrCat(
        "step ", slot.step, " has the buffers of step ", number, ": Finish it first, or give the ",
        "prefetcher more than ", options_.slots, " slots"));
  }
  if (!slot.state.released()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the transport has not given back the buffers of step ", slot.step, " yet: try again"));
  }
  slot.step = number;
  slot.deadline = step.deadline;
  slot.cancelled = false;
  std::fill(slot.waited.begin(), slot.waited.end(), 0);
  slot.device_row_ids = step.device_row_ids;
  slot.sequences.assign(step.sequences.begin(), step.sequences.end());
  slot.token_ids.assign(step.token_ids.begin(), step.token_ids.end());
  slot.dead.assign(step.dead.begin(), step.dead.end());
  slot.tokens = step.device_row_ids != nullptr ? step.device_tokens
                                               : static_cast<uint32_t>(step.token_ids.size());
  if (step.device_row_ids != nullptr) status = EnqueueIds(step, slot);
  if (!status.ok()) return status;
  last_step_ = number;
  slot.finished = false;
  slot.state.Begin(number, step.deadline);
  watch_->Watch(step.deadline);
  issue_queue_.Push(&slot);
  return StepTicket{.step = number, .slot = index};
}

absl::Status StepPrefetcher::CheckStep(const Step& step) const {
  return engram::CheckStep(step, options_, transport_.table_set().manifest.scheme);
}

absl::Status StepPrefetcher::EnqueueIds(const Step& step, StepSlot& slot) {
  absl::Status status;
  // A step that reads no ids ends without them: nothing of it may wait for the caller's event,
  // which is the caller's to destroy from then on.
  const bool reads_ids = layout_.columns > 0;
  if (step.device_ready != nullptr && reads_ids) {
    status = ids_stream_->WaitEvent(*step.device_ready);
  }
  if (status.ok() && options_.path == FetchPath::kTransport && reads_ids) {
    const uint64_t rows = slot.tokens * layout_.columns;
    status = ids_stream_->Copy(slot.row_ids.data(), step.device_row_ids, rows * sizeof(RowId));
  }
  return status.ok() ? ids_stream_->Record(*slot.ids_here) : status;
}

absl::Status StepPrefetcher::Wait(const StepTicket& ticket, uint32_t layer, Stream& stream) {
  const absl::StatusOr<size_t> index = LayerIndex(layer);
  if (!index.ok()) return index.status();
  StepSlot* const slot = Find(ticket);
  if (slot == nullptr) return NotPrefetched(ticket, last_step_);
  if (slot->cancelled) return Cancelled(ticket);
  if (slot->waited[*index] != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("layer ", layer, " of step ", ticket.step, " is waited for already"));
  }
  const std::atomic<uint32_t>* const word = slot->state.word(*index);
  // A graph is launched for other steps of the slot, whose generations differ. Prefetch has put the
  // word back before each of them.
  absl::Status status =
      stream.capturing()
          ? stream.WaitWord(word, WordTest::kAnyBit, kEndedBit)
          : stream.WaitWord(word, WordTest::kAtLeast, StatusWord(ticket.step, RowState::kLanded));
  if (!status.ok()) return status;
  slot->waited[*index] = 1;
  uint32_t* const seen = device_words_.as<uint32_t>() +
                         (ticket.step % options_.slots) * layout_.layers.size() + *index;
  return stream.Copy(seen, word, sizeof(uint32_t));
}

absl::Status StepPrefetcher::Finish(const StepTicket& ticket) {
  StepSlot* const slot = Find(ticket);
  if (slot == nullptr) return NotPrefetched(ticket, last_step_);
  slot->state.Await(ticket.step, kReapTime + kBusyMachine);
  slot->finished = true;
  absl::Status status = slot->state.error();
  // Every layer had landed when it was cancelled: all the same nobody waits for them any more.
  if (status.ok() && slot->cancelled) status = Cancelled(ticket);
  return status;
}

void StepPrefetcher::Cancel(const StepTicket& ticket) {
  StepSlot* const slot = Find(ticket);
  if (slot == nullptr) return;
  slot->cancelled = true;
  slot->state.EndAll(ticket.step, absl::CancelledError("the step was cancelled"));
  fetch_->Cancel(*slot);
}

absl::StatusOr<PlacedRows> StepPrefetcher::Rows(const StepTicket& ticket, uint32_t layer) const {
  const absl::StatusOr<size_t> index = LayerIndex(layer);
  if (!index.ok()) return index.status();
  if (ticket.step == 0 || ticket.step > last_step_) return NotPrefetched(ticket, last_step_);
  const StepLayout::Layer& shape = layout_.layers[*index];
  const uint32_t slot = static_cast<uint32_t>(ticket.step % options_.slots);
  return PlacedRows{.rows = slots_[slot]->placed + shape.placed_offset,
                    .row_bytes = shape.placed_row_bytes,
                    .status = device_words_.as<uint32_t>() + slot * layout_.layers.size() + *index};
}

absl::StatusOr<size_t> StepPrefetcher::LayerIndex(uint32_t layer) const {
  for (size_t i = 0; i < layer_numbers_.size(); ++i) {
    if (layer_numbers_[i] == layer) return i;
  }
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer, " has no table: the set's are ",
                                                 absl::StrJoin(layer_numbers_, ", ")));
}

StepSlot* StepPrefetcher::Find(const StepTicket& ticket) const {
  StepSlot* const slot = slots_[ticket.step % options_.slots].get();
  return ticket.step != 0 && slot->step == ticket.step && !slot->finished ? slot : nullptr;
}

}  // namespace engram
