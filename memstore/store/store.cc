#include "memstore/store/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "memstore/addressing/echo.h"

namespace engram {

std::string Store::ServedText() const {
  if (sets_.empty()) return "none is served";
  return absl::StrCat("served: ", absl::StrJoin(sets_, ", ", [](std::string* out, const auto& set) {
                        absl::StrAppend(out, set->name(), " ", set->id());
                      }));
}

absl::Status Store::Publish(std::shared_ptr<const TableSet> set) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& served : sets_) {
    if (served->id() != set->id()) continue;
    return absl::AlreadyExistsError(absl::StrCat("table set ", set->name(), " ", set->id(),
                                                 " is served already, from ", served->directory(),
                                                 "; name it once"));
  }
  sets_.push_back(std::move(set));
  return absl::OkStatus();
}

absl::Status Store::Retire(absl::string_view id) {
  // Let go after the lock: when it is the last holder, that unmaps the tables.
  std::shared_ptr<const TableSet> retired;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(sets_.begin(), sets_.end(),
                                  [&](const auto& served) { return served->id() == id; });
  if (found == sets_.end()) {
    return absl::NotFoundError(
        absl::StrCat("table set ", Echo(id), " is not served here; ", ServedText()));
  }
  retired = std::move(*found);
  sets_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Acquire(absl::string_view id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& served : sets_) {
    if (served->id() == id) return served;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("table set ", Echo(id), " is not served here; ", ServedText()));
}

absl::StatusOr<std::shared_ptr<const TableSet>> Store::Resolve(absl::string_view id_or_name) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (id_or_name.empty()) {
    if (sets_.size() == 1) return sets_.front();
    return absl::FailedPreconditionError(absl::StrCat(
        sets_.empty() ? "no table set can be chosen; " : "name one of the table sets; ",
        ServedText()));
  }
  for (const auto& served : sets_) {
    if (served->id() == id_or_name) return served;
  }
  for (auto served = sets_.rbegin(); served != sets_.rend(); ++served) {  // the newest of that name
    if ((*served)->name() == id_or_name) return *served;
  }
  return absl::FailedPreconditionError(
      absl::StrCat("table set ", Echo(id_or_name), " is not served here; ", ServedText()));
}

std::vector<std::shared_ptr<const TableSet>> Store::List() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return sets_;
}

}  // namespace engram
