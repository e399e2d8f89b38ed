#include "memstore/store/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/echo.h"

namespace engram {

std::string Store::ServedText() const {
  if (sets_.empty()) return "none is served";
  return absl::StrCat("served: ",
                      absl::StrJoin(sets_, ", ", [](std::string* out, const ServedSet& served) {
                        absl::StrAppend(out, served.set->name(), " ", served.set->id());
                      }));
}

absl::Status Store::NotServed(absl::string_view id) const {
  if (fenced_.count(std::string(id)) != 0) return MayBegin(SetState::kFenced, id);
  return absl::FailedPreconditionError(
      absl::StrCat("table set ", Echo(id), " is not served here; ", ServedText()));
}

absl::Status Store::Publish(std::shared_ptr<const TableSet> set) {
  absl::StatusOr<std::unique_ptr<ControlPage>> control = ControlPage::Create(set->id());
  if (!control.ok()) return control.status();
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const ServedSet& served : sets_) {
    if (served.set->id() != set->id()) continue;
    return absl::AlreadyExistsError(absl::StrCat("table set ", set->name(), " ", set->id(),
                                                 " is served already, from ",
                                                 served.set->directory(), "; name it once"));
  }
  fenced_.erase(set->id());
  sets_.push_back({std::move(set), *std::move(control)});
  return absl::OkStatus();
}

absl::Status Store::TakeOut(absl::string_view id, SetState state) {
  // Let go after the lock: when it is the last holder, that unmaps the tables.
  ServedSet taken;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(sets_.begin(), sets_.end(),
                                  [&](const ServedSet& served) { return served.set->id() == id; });
  if (found == sets_.end()) {
    return absl::NotFoundError(
        absl::StrCat("table set ", Echo(id), " is not served here; ", ServedText()));
  }
  if (state == SetState::kFenced) fenced_.insert(found->set->id());
  taken = std::move(*found);
  sets_.erase(found);
  taken.control->Advance(state);
  return absl::OkStatus();
}

absl::Status Store::Retire(absl::string_view id) { return TakeOut(id, SetState::kRetiring); }

absl::Status Store::Fence(absl::string_view id) { return TakeOut(id, SetState::kFenced); }

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Acquire(absl::string_view id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const ServedSet& served : sets_) {
    if (served.set->id() == id) return served.set;
  }
  return NotServed(id);
}

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Resolve(absl::string_view id_or_name) const {
  absl::StatusOr<ServedSet> served = ResolveServed(id_or_name);
  if (!served.ok()) return served.status();
  return std::move(served->set);
}

absl::StatusOr<ServedSet> Store::ResolveServed(absl::string_view id_or_name) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (id_or_name.empty()) {
    if (sets_.size() == 1) return sets_.front();
    return absl::FailedPreconditionError(absl::StrCat(
        sets_.empty() ? "no table set can be chosen; " : "name one of the table sets; ",
        ServedText()));
  }
  for (const ServedSet& served : sets_) {
    if (served.set->id() == id_or_name) return served;
  }
  for (auto served = sets_.rbegin(); served != sets_.rend(); ++served) {  // the newest of that name
    if (served->set->name() == id_or_name) return *served;
  }
  return NotServed(id_or_name);
}

std::vector<std::shared_ptr<const TableSet>> Store::List() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<std::shared_ptr<const TableSet>> sets;
  for (const ServedSet& served : sets_) sets.push_back(served.set);
  return sets;
}

}  // namespace engram
