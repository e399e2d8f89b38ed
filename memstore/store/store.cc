#include "memstore/store/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

void MakeSuperseded(ServedState& state, MonotonicTime now) {
  state.current = false;
  state.since = now;
  state.served.control->Advance(SetState::kSuperseded);
}

}  // namespace

std::string Store::ServedText() const {
  std::vector<std::string> texts;
  for (const ServedState& state : sets_) {
    if (!state.current) continue;
    texts.push_back(absl::StrCat(state.served.set->name(), " ", state.served.set->id()));
  }
  if (texts.empty()) return "none is served";
  return absl::StrCat("served: ", absl::StrJoin(texts, ", "));
}

absl::Status Store::NotServed(absl::string_view id) const {
  if (fenced_.count(std::string(id)) != 0) return MayBegin(SetState::kFenced, id);
  return absl::FailedPreconditionError(
      absl::StrCat("table set ", QuoteForMessage(id), " is not served here; ", ServedText()));
}

ServedState* Store::Find(absl::string_view id) const {
  for (ServedState& state : sets_) {
    if (state.served.set->id() == id) return &state;
  }
  return nullptr;
}

absl::StatusOr<ServedSet> Store::Prepare(std::shared_ptr<const TableSet> set) {
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<ControlPage> control, ControlPage::Create(set->id()));
  return ServedSet{std::move(set), std::move(control), std::make_shared<LeaseCounts>()};
}

absl::Status Store::Publish(std::shared_ptr<const TableSet> set) {
  ENGRAM_ASSIGN_OR_RETURN(ServedSet served, Prepare(std::move(set)));
  return Publish(std::move(served));
}

absl::Status Store::Publish(ServedSet served) {
  ENGRAM_CHECK(served.set != nullptr && served.control != nullptr && served.leases != nullptr,
               "a set is published as Prepare makes it");
  const TableSet& set = *served.set;
  MutexLock lock(mutex_);
  if (const ServedState* there = Find(set.id())) {
    return absl::AlreadyExistsError(absl::StrCat("table set ", set.name(), " ", set.id(),
                                                 " is served already, from ",
                                                 there->served.set->directory(), "; name it once"));
  }
  const auto now = clock_.Now();
  SupersedeCurrent(set.name(), now);
  fenced_.erase(set.id());
  sets_.push_back({.served = std::move(served), .current = true, .since = now, .acquired = now});
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

void Store::SupersedeCurrent(absl::string_view name, MonotonicTime now) {
  for (ServedState& state : sets_) {
    if (state.current && state.served.set->name() == name) MakeSuperseded(state, now);
  }
}

absl::Status Store::Supersede(absl::string_view id) {
  MutexLock lock(mutex_);
  ServedState* const state = Find(id);
  if (state == nullptr || !state->current) {
    return absl::NotFoundError(
        absl::StrCat("no name leads to table set ", QuoteForMessage(id), " here; ", ServedText()));
  }
  MakeSuperseded(*state, clock_.Now());
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status Store::TakeBack(absl::string_view id) {
  MutexLock lock(mutex_);
  ServedState* const found = Find(id);
  if (found == nullptr || found->current) {
    return absl::NotFoundError(
        absl::StrCat("no superseded table set ", QuoteForMessage(id), " is here; ", ServedText()));
  }
  const auto now = clock_.Now();
  SupersedeCurrent(found->served.set->name(), now);
  found->current = true;
  found->since = now;
  found->served.control->TakeBack();
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status Store::TakeOut(absl::string_view id, SetState how, bool even_current) {
  // Let go after the lock: when it is the last holder, that unmaps the tables.
  ServedState taken;
  MutexLock lock(mutex_);
  ServedState* const state = Find(id);
  if (state == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("table set ", QuoteForMessage(id), " is not served here; ", ServedText()));
  }
  if (state->current && !even_current) {
    return absl::FailedPreconditionError(
        absl::StrCat("a name leads to table set ", QuoteForMessage(id)));
  }
  if (how == SetState::kFenced) fenced_.insert(state->served.set->id());
  taken = std::move(*state);
  sets_.erase(sets_.begin() + (state - sets_.data()));
  taken.served.control->Advance(how);
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status Store::Retire(absl::string_view id) { return TakeOut(id, SetState::kRetiring); }

absl::Status Store::RetireSuperseded(absl::string_view id) {
  return TakeOut(id, SetState::kRetiring, /*even_current=*/false);
}

absl::Status Store::Fence(absl::string_view id) { return TakeOut(id, SetState::kFenced); }

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Acquire(absl::string_view id) const {
  const auto now = clock_.Now();
  MutexLock lock(mutex_);
  ServedState* const state = Find(id);
  if (state == nullptr) return NotServed(id);
  state->acquired = now;
  state->was_acquired = true;
  return state->served.set;
}

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Resolve(absl::string_view id_or_name) const {
  ENGRAM_ASSIGN_OR_RETURN(ServedSet served, ResolveServed(id_or_name));
  return std::move(served.set);
}

absl::StatusOr<ServedSet> Store::ResolveServed(absl::string_view id_or_name) const {
  MutexLock lock(mutex_);
  const ServedState* only = nullptr;
  int current = 0;
  for (const ServedState& state : sets_) {
    if (state.served.set->id() == id_or_name) return state.served;
    if (!state.current) continue;
    if (state.served.set->name() == id_or_name) return state.served;
    only = &state;
    ++current;
  }
  if (!id_or_name.empty()) return NotServed(id_or_name);
  if (current == 1) return only->served;
  return absl::FailedPreconditionError(
      absl::StrCat(current == 0 ? "no table set can be chosen; " : "name one of the table sets; ",
                   ServedText()));
}

std::vector<std::shared_ptr<const TableSet>> Store::List() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const TableSet>> sets;
  for (const ServedState& state : sets_) {
    if (state.current) sets.push_back(state.served.set);
  }
  return sets;
}

std::vector<ServedState> Store::States() const {
  MutexLock lock(mutex_);
  return sets_;
}

std::vector<std::string> Store::Fenced() const {
  MutexLock lock(mutex_);
  return {fenced_.begin(), fenced_.end()};
}

}  // namespace engram
