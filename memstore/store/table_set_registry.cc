#include "memstore/store/table_set_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/check.h"
#include "memstore/base/quote_for_message.h"
#include "memstore/base/status_macros.h"

namespace engram {
namespace {

std::string TextOf(const RegisteredSet& set) {
  return absl::StrCat(set.served.set->name(), " ", set.served.set->id());
}

void MakeSuperseded(RegisteredSet& set, MonotonicTime now) {
  set.state = TableSetState::kSuperseded;
  set.since = now;
  set.served.control->Advance(set.state);
}

bool IsMeant(const FencedSet& fenced, absl::string_view id_or_name) {
  return (fenced.missed && fenced.name == id_or_name) || fenced.id == id_or_name ||
         IsIdOrItsBeginning(id_or_name, fenced.id);
}

// Whether the set may be had, in the words that it was asked for with.
absl::Status MayHaveIt(const TableSet& set, absl::string_view asked, MayHaveSet may_have) {
  absl::Status status = may_have(set.name());
  if (status.ok() || asked == set.name()) return status;
  status = may_have(asked);
  if (!status.ok()) return status;
  return absl::PermissionDeniedError(absl::StrCat(
      "you may not have table set ", QuoteForMessage(asked), ": engramd's --allow lists who may"));
}

}  // namespace

std::string TableSetRegistry::ServedText(MayHaveSet may_have) const {
  std::vector<std::string> texts;
  for (const RegisteredSet& set : sets_) {
    if (!set.current() || !may_have(set.served.set->name()).ok()) continue;
    texts.push_back(TextOf(set));
  }
  const std::vector<std::string> missed = MissedNames(may_have);
  if (!texts.empty() && !missed.empty()) {
    return absl::StrCat("served: ", absl::StrJoin(texts, ", "),
                        "; fenced, for its memory was damaged: ", absl::StrJoin(missed, ", "));
  }
  if (texts.empty() && !fenced_.empty()) {
    // No ids: not everyone may know them.
    return "none is served: what was is fenced, for its memory was damaged; publish its directory "
           "again or another set of its name, or start engramd again";
  }
  if (texts.empty()) return "none is served";
  return absl::StrCat("served: ", absl::StrJoin(texts, ", "));
}

std::vector<std::string> TableSetRegistry::MissedNames(MayHaveSet may_have) const {
  std::vector<std::string> names;
  for (const auto& [id, fenced] : fenced_) {
    if (fenced.missed && may_have(fenced.name).ok()) names.push_back(fenced.name);
  }
  return names;
}

absl::Status TableSetRegistry::NotServed(absl::string_view id, MayHaveSet may_have) const {
  for (const auto& [fenced_id, fenced] : fenced_) {
    if (IsMeant(fenced, id) && may_have(fenced.name).ok()) {
      return MayBegin(TableSetState::kFenced, fenced_id);
    }
  }
  // As of one that is served: a name that may not be had says nothing.
  if (!LooksLikeAnId(id)) ENGRAM_RETURN_IF_ERROR(may_have(id));
  return absl::FailedPreconditionError(absl::StrCat(
      "table set ", QuoteForMessage(id), " is not served here",
      LooksLikeTooFewDigits(id)
          ? absl::StrCat(" (an id is taken from its first ", kLeastIdDigits, " digits on)")
          : "",
      "; ", ServedText(may_have)));
}

RegisteredSet* TableSetRegistry::Find(absl::string_view id) const {
  for (RegisteredSet& set : sets_) {
    if (set.served.set->id() == id) return &set;
  }
  return nullptr;
}

absl::StatusOr<ServedSet> TableSetRegistry::Prepare(std::shared_ptr<const TableSet> set) {
  ENGRAM_ASSIGN_OR_RETURN(std::unique_ptr<ControlPage> control, ControlPage::Create(set->id()));
  return ServedSet{std::move(set), std::move(control), std::make_shared<LeaseCounts>()};
}

absl::Status TableSetRegistry::Publish(std::shared_ptr<const TableSet> set) {
  ENGRAM_ASSIGN_OR_RETURN(ServedSet served, Prepare(std::move(set)));
  return Publish(std::move(served));
}

absl::Status TableSetRegistry::Publish(ServedSet served) {
  ENGRAM_CHECK(served.set != nullptr && served.control != nullptr && served.leases != nullptr,
               "a set is published as Prepare makes it");
  const TableSet& set = *served.set;
  MutexLock lock(mutex_);
  if (const RegisteredSet* there = Find(set.id())) {
    return absl::AlreadyExistsError(absl::StrCat("table set ", set.name(), " ", set.id(),
                                                 " is served already, from ",
                                                 there->served.set->directory(), "; name it once"));
  }
  const auto now = clock_.Now();
  FreeName(set.name(), now);
  fenced_.erase(set.id());
  sets_.push_back({.served = std::move(served),
                   .state = TableSetState::kServing,
                   .since = now,
                   .acquired = now});
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

void TableSetRegistry::FreeName(absl::string_view name, MonotonicTime now) {
  for (RegisteredSet& set : sets_) {
    if (set.current() && set.served.set->name() == name) MakeSuperseded(set, now);
  }
  for (auto& [id, fenced] : fenced_) {
    if (fenced.name == name) fenced.missed = false;
  }
}

absl::Status TableSetRegistry::Supersede(absl::string_view id) {
  MutexLock lock(mutex_);
  RegisteredSet* const set = Find(id);
  if (set == nullptr || !set->current()) {
    return absl::NotFoundError(
        absl::StrCat("no name leads to table set ", QuoteForMessage(id), " here; ", ServedText()));
  }
  MakeSuperseded(*set, clock_.Now());
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status TableSetRegistry::TakeBack(absl::string_view id) {
  MutexLock lock(mutex_);
  RegisteredSet* const found = Find(id);
  if (found == nullptr || found->current()) {
    return absl::NotFoundError(
        absl::StrCat("no superseded table set ", QuoteForMessage(id), " is here; ", ServedText()));
  }
  const auto now = clock_.Now();
  FreeName(found->served.set->name(), now);
  found->state = TableSetState::kServing;
  found->since = now;
  found->served.control->TakeBack();
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status TableSetRegistry::TakeOut(absl::string_view id, TableSetState how, bool even_current) {
  // Let go after the lock: when it is the last holder, that unmaps the tables.
  RegisteredSet taken;
  MutexLock lock(mutex_);
  RegisteredSet* const set = Find(id);
  if (set == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("table set ", QuoteForMessage(id), " is not served here; ", ServedText()));
  }
  if (set->current() && !even_current) {
    return absl::FailedPreconditionError(
        absl::StrCat("a name leads to table set ", QuoteForMessage(id)));
  }
  if (how == TableSetState::kFenced) {
    const TableSet& damaged = *set->served.set;
    fenced_[damaged.id()] = {.id = damaged.id(),
                             .name = damaged.name(),
                             .directory = damaged.directory(),
                             .since = clock_.Now(),
                             .missed = set->current()};
  }
  taken = std::move(*set);
  sets_.erase(sets_.begin() + (set - sets_.data()));
  taken.served.control->Advance(how);
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status TableSetRegistry::Retire(absl::string_view id) {
  return TakeOut(id, TableSetState::kRetiring);
}

absl::Status TableSetRegistry::RetireSuperseded(absl::string_view id) {
  return TakeOut(id, TableSetState::kRetiring, /*even_current=*/false);
}

absl::Status TableSetRegistry::Fence(absl::string_view id) {
  return TakeOut(id, TableSetState::kFenced);
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSetRegistry::Acquire(
    absl::string_view id, MayHaveSet may_have) const {
  const auto now = clock_.Now();
  MutexLock lock(mutex_);
  RegisteredSet* const set = Find(id);
  if (set == nullptr) return NotServed(id, may_have);
  ENGRAM_RETURN_IF_ERROR(MayHaveIt(*set->served.set, id, may_have));
  set->acquired = now;
  set->was_acquired = true;
  return set->served.set;
}

absl::StatusOr<std::shared_ptr<const TableSet>> TableSetRegistry::Resolve(
    absl::string_view id_or_name, MayHaveSet may_have) const {
  ENGRAM_ASSIGN_OR_RETURN(ServedSet served, ResolveServed(id_or_name, may_have));
  return std::move(served.set);
}

absl::StatusOr<ServedSet> TableSetRegistry::ResolveServed(absl::string_view id_or_name,
                                                          MayHaveSet may_have) const {
  MutexLock lock(mutex_);
  const std::vector<const RegisteredSet*> meant = Meant(id_or_name, may_have);
  // A fenced set's name is still a name that clients may mean: the other's rows are no answer to
  // who names none.
  const bool alone = !id_or_name.empty() || MissedNames(may_have).empty();
  if (meant.size() == 1 && alone) {
    ENGRAM_RETURN_IF_ERROR(MayHaveIt(*meant.front()->served.set, id_or_name, may_have));
    return meant.front()->served;
  }
  if (id_or_name.empty()) {
    if (meant.empty() && !Meant("", &EverySet).empty()) {
      return absl::PermissionDeniedError(
          "you may have none of the table sets that are served here: engramd's --allow lists who "
          "may");
    }
    return absl::FailedPreconditionError(absl::StrCat(
        meant.empty() ? "no table set can be chosen; " : "name one of the table sets; ",
        ServedText(may_have)));
  }
  if (meant.empty()) return NotServed(id_or_name, may_have);
  std::vector<std::string> texts;
  for (const RegisteredSet* set : meant) texts.push_back(TextOf(*set));
  return absl::FailedPreconditionError(absl::StrCat("table set ", QuoteForMessage(id_or_name),
                                                    " may be ", absl::StrJoin(texts, " or "),
                                                    ": give more digits of the id"));
}

std::vector<const RegisteredSet*> TableSetRegistry::Meant(absl::string_view id_or_name,
                                                          MayHaveSet may_have) const {
  std::vector<const RegisteredSet*> meant;
  const RegisteredSet* denied = nullptr;
  for (const RegisteredSet& set : sets_) {
    const TableSet& table_set = *set.served.set;
    if (table_set.id() == id_or_name) return {&set};
    const bool named = set.current() && (id_or_name.empty() || table_set.name() == id_or_name);
    if (!named && !IsIdOrItsBeginning(id_or_name, table_set.id())) continue;
    if (may_have(table_set.name()).ok()) {
      meant.push_back(&set);
    } else if (named && !id_or_name.empty()) {
      denied = &set;
    }
  }
  // Who names it whole is told that it may not be had.
  if (meant.empty() && denied != nullptr) meant.push_back(denied);
  return meant;
}

std::vector<std::shared_ptr<const TableSet>> TableSetRegistry::List() const {
  MutexLock lock(mutex_);
  std::vector<std::shared_ptr<const TableSet>> sets;
  for (const RegisteredSet& set : sets_) {
    if (set.current()) sets.push_back(set.served.set);
  }
  return sets;
}

TableSetRegistry::All TableSetRegistry::Everything() const {
  MutexLock lock(mutex_);
  All all{.served = sets_, .fenced = {}};
  for (const auto& [id, fenced] : fenced_) all.fenced.push_back(fenced);
  return all;
}

std::vector<RegisteredSet> TableSetRegistry::States() const { return Everything().served; }

std::vector<FencedSet> TableSetRegistry::Fenced() const { return Everything().fenced; }

absl::StatusOr<FencedSet> TableSetRegistry::FindFenced(absl::string_view id_or_name) const {
  MutexLock lock(mutex_);
  const FencedSet* found = nullptr;
  for (const auto& [id, fenced] : fenced_) {
    if (!IsMeant(fenced, id_or_name)) continue;
    if (found != nullptr) {
      return absl::NotFoundError(absl::StrCat("fenced table set ", QuoteForMessage(id_or_name),
                                              " may be ", found->id, " or ", id,
                                              ": give more digits of the id"));
    }
    found = &fenced;
  }
  if (found != nullptr) return *found;
  return absl::NotFoundError(
      absl::StrCat("table set ", QuoteForMessage(id_or_name), " is not fenced here"));
}

absl::Status TableSetRegistry::ForgetFenced(absl::string_view id) {
  MutexLock lock(mutex_);
  if (fenced_.erase(std::string(id)) == 0) {
    return absl::NotFoundError(
        absl::StrCat("table set ", QuoteForMessage(id), " is not fenced here"));
  }
  version_.fetch_add(1, std::memory_order_release);
  return absl::OkStatus();
}

}  // namespace engram
