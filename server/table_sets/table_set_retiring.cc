// How operators take table sets away (`engram admin retire`).
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/table_sets/table_set_manager.h"

namespace engram {

absl::StatusOr<std::shared_ptr<const TableSet>> TableSetManager::Supersede(
    const std::string& id_or_name) {
  const absl::StatusOr<ServedSet> served = registry_->ResolveServed(id_or_name);
  if (!served.ok() || id_or_name.empty()) {
    return absl::NotFoundError(served.ok() ? "name the table set to retire, by its name or id"
                                           : served.status().message());
  }
  const std::string& id = served->set->id();
  MutexLock moving(moving_);
  const std::vector<std::shared_ptr<const TableSet>> current = registry_->List();
  const bool is_current =
      std::any_of(current.begin(), current.end(), [&](const auto& set) { return set->id() == id; });
  if (!is_current) {
    return absl::FailedPreconditionError(absl::StrCat(
        "table set ", id, " is superseded already, and goes when nobody has it any more"));
  }
  if (current.size() == 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("table set ", id, " is the only one that is served: publish the one that ",
                     "follows it, or stop engramd"));
  }
  ENGRAM_RETURN_IF_ERROR(registry_->Supersede(id));
  ENGRAM_RETURN_IF_ERROR(Forget(served->set->name(), id));
  return served->set;
}

absl::StatusOr<FencedSet> TableSetManager::DropFenced(const std::string& id_or_name) {
  MutexLock moving(moving_);
  ENGRAM_ASSIGN_OR_RETURN(FencedSet fenced, registry_->FindFenced(id_or_name));
  if (registry_->List().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("table set ", fenced.id, " is fenced, and no other is served: publish it or ",
                     "another set of its name, or stop engramd"));
  }
  ENGRAM_RETURN_IF_ERROR(registry_->ForgetFenced(fenced.id));
  options_.after_publish();
  if (fenced.missed) ENGRAM_RETURN_IF_ERROR(Forget(fenced.name, fenced.id));
  return fenced;
}

absl::Status TableSetManager::Forget(const std::string& name, const std::string& id) {
  generations_.Take(name);
  if (options_.record == nullptr) return absl::OkStatus();
  const absl::Status status = options_.record->Retire(name);
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat("the name was taken from table set ", id,
                                   ", but a restart will serve it again: ", status.message()));
}

}  // namespace engram
