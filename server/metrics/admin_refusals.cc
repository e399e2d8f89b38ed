#include "server/metrics/admin_refusals.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "memstore/base/quote_for_message.h"
#include "server/base/log.h"

namespace engram {

void AdminRefusals::Add(AdminMethod method, const char* event, absl::string_view what,
                        absl::string_view who, const absl::Status& status) {
  {
    MutexLock lock(mutex_);
    ++counts_[{method, status.code()}];
  }
  const LogPace::Turn turn = pace_.Next();
  if (turn.left_out > 0) {
    LogEvent(*log_, spdlog::level::warn, "lines_left_out",
             {{"lines", turn.left_out}, {"of", "admin_refused"}},
             absl::StrCat(turn.left_out, " lines of what operators were refused were left out"));
  }
  if (!turn.may_write) return;
  LogEvent(*log_, spdlog::level::warn, event,
           {{"method", kAdminMethodNames[static_cast<size_t>(method)]},
            {"peer", std::string(who)},
            {"code", absl::StatusCodeToString(status.code())},
            {"reason", std::string(status.message())}},
           absl::StrCat("did not ", QuoteForMessage(what), " for ", who, ": ", status.message()));
}

AdminRefusals::Counts AdminRefusals::Read() const {
  MutexLock lock(mutex_);
  return counts_;
}

}  // namespace engram
