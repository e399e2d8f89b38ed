// The router's batches: their parts and layers, how they land, fail and are given back.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/cluster/router.h"

namespace engram {
namespace {

// An id is a slot, and above it how often the slot was used.
constexpr uint64_t kSlotBits = 20;
constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;

// Of the parts that are missing at a deadline, those that the message names.
constexpr uint32_t kPartsNamed = 3;

template <typename Slots>
auto* FindIn(Slots& slots, uint64_t id) {
  const uint64_t slot = id & kSlotMask;
  auto* const found = slot < slots.size() ? &slots[slot] : nullptr;
  return found != nullptr && found->is_live && found->id == id ? found : nullptr;
}

}  // namespace

Router::Attempt* Router::FindAttempt(AttemptId id) { return FindIn(attempts_, id); }
Router::Batch* Router::FindBatch(BatchId id) { return FindIn(batches_, id); }
const Router::Batch* Router::FindBatch(BatchId id) const { return FindIn(batches_, id); }

Router::Batch& Router::OpenBatch() {
  if (free_batches_.empty()) {
    free_batches_.push_back(static_cast<uint32_t>(batches_.size()));
    batches_.emplace_back().id = free_batches_.back();
  }
  const uint32_t slot = free_batches_.back();
  free_batches_.pop_back();
  Batch& batch = batches_[slot];
  batch.id += kSlotMask + 1;
  batch.is_live = true;
  batch.place = static_cast<uint32_t>(live_batches_.size());
  live_batches_.push_back(slot);
  batch.has_ended = batch.is_released = false;
  batch.splits = batch.waiting = batch.attempts = batch.written = 0;
  ++counters_.open_batches;
  return batch;
}

Router::Attempt& Router::OpenAttempt() {
  if (free_attempts_.empty()) {
    ENGRAM_CHECK(attempts_.size() <= kSlotMask, "more attempts than ids");
    free_attempts_.push_back(static_cast<uint32_t>(attempts_.size()));
    attempts_.emplace_back().id = free_attempts_.back();
  }
  const uint32_t slot = free_attempts_.back();
  free_attempts_.pop_back();
  Attempt& attempt = attempts_[slot];
  const AttemptId id = attempt.id + kSlotMask + 1;
  attempt = Attempt();
  attempt.id = id;
  attempt.is_live = true;
  attempt.place = static_cast<uint32_t>(live_attempts_.size());
  live_attempts_.push_back(slot);
  ++counters_.open_attempts;
  return attempt;
}

void Router::FreeAttempt(Attempt& attempt) {
  const uint32_t slot = live_attempts_[attempt.place];
  attempt.is_live = false;
  live_attempts_[attempt.place] = live_attempts_.back();
  attempts_[live_attempts_[attempt.place]].place = attempt.place;
  live_attempts_.pop_back();
  free_attempts_.push_back(slot);
  --counters_.open_attempts;
}

void Router::FillParts(Batch& batch, absl::Span<const SplitPart> parts, bool is_registered,
                       MonotonicTime now) {
  batch.part_count = batch.parts_left = 0;
  batch.parts_of_layer.assign(batch.layers, 0);
  batch.was_told.assign(batch.layers, 0);
  batch.landed_from.clear();
  AddParts(batch, parts, is_registered, now);
}

void Router::AddParts(Batch& batch, absl::Span<const SplitPart> parts, bool is_registered,
                      MonotonicTime now) {
  const uint32_t first = batch.part_count;
  batch.part_count += static_cast<uint32_t>(parts.size());
  batch.parts_left += static_cast<uint32_t>(parts.size());
  if (batch.parts.size() < batch.part_count) batch.parts.resize(batch.part_count);
  batch.landed_from.resize(size_t{batch.part_count} * batch.layers, kNotAsked);
  for (size_t i = 0; i < parts.size(); ++i) {
    ENGRAM_CHECK(parts[i].piece < piece_of_map_.size(), "a part of another map's piece");
    Part& part = batch.parts[first + i] = Part();
    part.piece = piece_of_map_[parts[i].piece];
    part.bytes = parts[i].bytes;
    part.not_before = now;
    part.is_registered = is_registered;
    ++pieces_[part.piece]->open_parts;
    for (const PartLayer& layer : parts[i].layers) {
      ENGRAM_CHECK(layer.request < batch.layers, "a part of a layer that the batch has not");
      batch.landed_from[(first + i) * batch.layers + layer.request] = kNotLanded;
      ++batch.parts_of_layer[layer.request];
      ++part.layers_left;
      if (!layer.landing.places.empty()) part.is_registered = false;
    }
  }
}

void Router::LandLayer(Batch& batch, uint32_t number, uint32_t layer, StoreId store,
                       Actions* actions) {
  StoreId& from = batch.landed_from[size_t{number} * batch.layers + layer];
  if (from != kNotLanded) return;
  from = store;
  --batch.parts[number].layers_left;
  if (--batch.parts_of_layer[layer] > 0) return;
  batch.was_told[layer] = 1;
  actions->push_back(
      {.kind = ActionKind::kLayer, .batch = batch.id, .tag = batch.tag, .layer = layer});
}

void Router::LandPart(Batch& batch, uint32_t number, StoreId store, Actions* actions) {
  for (uint32_t layer = 0; layer < batch.layers; ++layer) {
    LandLayer(batch, number, layer, store, actions);
  }
  Part& part = batch.parts[number];
  if (part.has_landed) return;
  part.has_landed = true;
  --batch.parts_left;
}

void Router::EndIfLanded(Batch& batch, Actions* actions) {
  if (!batch.is_live || batch.has_ended || batch.parts_left > 0) return;
  ENGRAM_CHECK(batch.written == 0, "a batch landed while an attempt may still write to it");
  batch.has_ended = batch.is_released = true;
  ++counters_.landed;
  actions->push_back({.kind = ActionKind::kLanded, .batch = batch.id, .tag = batch.tag});
  CloseIfDone(batch);
}

// False: the caller has been told of a layer with rows from there.
bool Router::DropPartFrom(Batch& batch, uint32_t number, StoreId store) {
  Part& part = batch.parts[number];
  for (uint32_t layer = 0; layer < batch.layers; ++layer) {
    StoreId& from = batch.landed_from[size_t{number} * batch.layers + layer];
    if (from != store) continue;
    if (batch.was_told[layer] != 0) return false;
    from = kNotLanded;
    ++part.layers_left;
    ++batch.parts_of_layer[layer];
    ++counters_.layers_dropped;
    if (part.has_landed) {
      part.has_landed = false;
      ++batch.parts_left;
    }
  }
  return true;
}

void Router::DropFrom(StoreId store, const absl::Status& why, MonotonicTime now, Actions* actions) {
  walked_batches_.clear();
  for (const uint32_t slot : live_batches_) walked_batches_.push_back(batches_[slot].id);
  for (size_t i = 0; i < walked_batches_.size(); ++i) {
    Batch* const batch = FindBatch(walked_batches_[i]);
    if (batch == nullptr) continue;
    for (uint32_t number = 0; number < batch->part_count && !batch->has_ended; ++number) {
      Part& part = batch->parts[number];
      const uint32_t left = part.layers_left;
      if (!DropPartFrom(*batch, number, store)) {
        FailPart(*batch, number, why, now, actions);
        break;
      }
      // What is under way elsewhere was sent without the layers that had landed.
      const bool lacks_rows = part.layers_left != left;
      bool is_touched = lacks_rows;
      for (const AttemptId id : part.open) {
        Attempt* const attempt = FindAttempt(id);
        if (attempt == nullptr || (attempt->store != store && !lacks_rows)) continue;
        is_touched = true;
        if (attempt->way == LandingWay::kCopied) {
          Lose(*attempt, now, actions);
        } else if (attempt->state == AttemptState::kOpen) {
          Drain(*attempt, actions);
        }
      }
      if (is_touched && !part.is_waiting) {
        SendAgain(*batch, number, ResendReason::kDamaged, why, now, actions);
      }
    }
  }
}

absl::Status Router::Explain(const Part& part, uint32_t number, const absl::Status& why) const {
  std::string stores;
  for (uint32_t i = 0; i < part.tried_count; ++i) {
    const absl::string_view address = AddressOf(part.tried[i]);
    absl::StrAppend(&stores, i == 0 ? "asked of " : ", ", address.empty() ? "one gone" : address);
  }
  return absl::Status(
      why.ok() ? absl::StatusCode::kUnavailable : why.code(),
      absl::StrCat("part ", number, " (", DescribePiece(pieces_[part.piece]->piece), "), ",
                   stores.empty() ? "of which there is no ready replica" : stores, ": ",
                   why.ok() ? "no answer" : why.message()));
}

absl::Status Router::ExplainDeadline(const Batch& batch) const {
  std::string text = "the deadline passed";
  uint32_t named = 0;
  for (uint32_t i = 0; i < batch.part_count; ++i) {
    if (batch.parts[i].has_landed) continue;
    if (++named > kPartsNamed) continue;
    absl::StrAppend(&text, named == 1 ? " before " : "; before ",
                    Explain(batch.parts[i], i, batch.parts[i].last_error).message());
  }
  if (named > kPartsNamed) absl::StrAppend(&text, "; and ", named - kPartsNamed, " more parts");
  return absl::DeadlineExceededError(text);
}

void Router::FailPart(Batch& batch, uint32_t number, const absl::Status& why, MonotonicTime now,
                      Actions* actions) {
  FailBatch(batch, Explain(batch.parts[number], number, why), now, actions);
}

void Router::FailBatch(Batch& batch, const absl::Status& status, MonotonicTime now,
                       Actions* actions) {
  batch.has_ended = true;
  batch.waiting = 0;
  ++counters_.failed;
  actions->push_back(
      {.kind = ActionKind::kFailed, .batch = batch.id, .tag = batch.tag, .status = status});
  for (uint32_t i = 0; i < batch.part_count; ++i) {
    batch.parts[i].is_waiting = false;
    for (const AttemptId id : batch.parts[i].open) {
      Attempt* const attempt = FindAttempt(id);
      if (attempt != nullptr && attempt->state == AttemptState::kOpen) {
        Lose(*attempt, now, actions);
      }
    }
  }
  Release(batch, actions);
  CloseIfDone(batch);
}

void Router::Release(Batch& batch, Actions* actions) {
  if (!batch.has_ended || batch.is_released || batch.written > 0) return;
  batch.is_released = true;
  actions->push_back({.kind = ActionKind::kReleased, .batch = batch.id, .tag = batch.tag});
}

void Router::CloseIfDone(Batch& batch) {
  if (!batch.is_live || !batch.has_ended || batch.attempts > 0) return;
  for (uint32_t i = 0; i < batch.part_count; ++i) {
    --pieces_[batch.parts[i].piece]->open_parts;
    batch.parts[i].last_error = absl::OkStatus();
  }
  const uint32_t slot = live_batches_[batch.place];
  batch.is_live = false;
  live_batches_[batch.place] = live_batches_.back();
  batches_[live_batches_[batch.place]].place = batch.place;
  live_batches_.pop_back();
  free_batches_.push_back(slot);
  --counters_.open_batches;
}

}  // namespace engram
