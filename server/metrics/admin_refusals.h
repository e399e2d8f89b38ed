// Operators' calls that were refused or failed: counted by method and code, and told in the log, at
// most kLinesPerSecond lines a second.
//
// Thread-safe. A call of operators is no hot path.
#pragma once

#include <spdlog/logger.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "memstore/base/mutex.h"
#include "server/base/log_pace.h"

namespace engram {

enum class AdminMethod : uint8_t { kPublish, kRetire, kList, kScrub, kOther };
inline constexpr size_t kAdminMethods = 5;
inline constexpr std::array<const char*, kAdminMethods> kAdminMethodNames = {
    "publish", "retire", "list", "scrub", "other"};

class AdminRefusals {
 public:
  using Counts = std::map<std::pair<AdminMethod, absl::StatusCode>, uint64_t>;
  static constexpr uint64_t kLinesPerSecond = 10;

  // `clock` outlives it.
  AdminRefusals(std::shared_ptr<spdlog::logger> log, const Clock* clock)
      : log_(std::move(log)), pace_(kLinesPerSecond, clock) {}

  // `event` is the line's ("publish_refused"), `what` was not done ("publish /tables/a") and is
  // quoted; `who` asked, and is as the log may have it.
  void Add(AdminMethod method, const char* event, absl::string_view what, absl::string_view who,
           const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those that there were.
  Counts Read() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::shared_ptr<spdlog::logger> log_;
  LogPace pace_;
  mutable Mutex mutex_;
  Counts counts_ ABSL_GUARDED_BY(mutex_);  // at most one for each method and code
};

}  // namespace engram
