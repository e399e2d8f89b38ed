#include "server/table_sets/generations.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"

namespace engram {

Generations::Generations(absl::Span<const Publication> kept) {
  MutexLock lock(mutex_);
  for (const Publication& one : kept) {
    names_[one.name] = {.highest = one.generation, .id = one.id};
  }
}

absl::StatusOr<uint64_t> Generations::Next(const std::string& name, const std::string& id,
                                           std::optional<uint64_t> asked) const {
  if (asked && (*asked == 0 || *asked > kMostGeneration)) {
    return absl::InvalidArgumentError(absl::StrCat("generation ", *asked,
                                                   ": a publication's is 1 to ", kMostGeneration,
                                                   ", and 0 is what engramd was started with"));
  }
  MutexLock lock(mutex_);
  const auto found = names_.find(name);
  const Name seen = found == names_.end() ? Name() : found->second;
  const bool is_last = !seen.id.empty() && seen.id == id;
  if (asked && (*asked > seen.highest || (*asked == seen.highest && is_last))) return *asked;
  if (!asked && is_last) return seen.highest;
  if (!asked && seen.highest < kMostGeneration) return seen.highest + 1;
  const std::string what =
      absl::StrCat("the name ", QuoteForMessage(name), " has seen generation ", seen.highest);
  if (!asked) return absl::FailedPreconditionError(absl::StrCat(what, ", and there is none above"));
  if (*asked == seen.highest) {
    return absl::FailedPreconditionError(absl::StrCat(
        what, " already, ", seen.id.empty() ? "before it was retired" : "as table set ", seen.id,
        ": no two sets have one; give ", seen.highest + 1, " or more, or none"));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(what, ", and ", *asked,
                   " is lower: what is published has the highest, also where an older set is "
                   "published again; give ",
                   seen.highest + (is_last ? 0 : 1), " or more, or none"));
}

void Generations::Publish(const std::string& name, const std::string& id, uint64_t generation) {
  MutexLock lock(mutex_);
  names_[name] = {.highest = generation, .id = id};
  of_[id] = generation;
  version_.fetch_add(1, std::memory_order_release);
}

void Generations::Start(const std::string& name, const std::string& id) {
  MutexLock lock(mutex_);
  const auto found = names_.find(name);
  of_[id] = found != names_.end() && found->second.id == id ? found->second.highest : 0;
  version_.fetch_add(1, std::memory_order_release);
}

void Generations::Take(const std::string& name) {
  MutexLock lock(mutex_);
  if (const auto found = names_.find(name); found != names_.end()) found->second.id.clear();
}

std::optional<uint64_t> Generations::Of(const std::string& id) const {
  MutexLock lock(mutex_);
  const auto found = of_.find(id);
  if (found == of_.end()) return std::nullopt;
  return found->second;
}

}  // namespace engram
