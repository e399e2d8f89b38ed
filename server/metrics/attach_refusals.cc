#include "server/metrics/attach_refusals.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "memstore/addressing/set_id.h"
#include "memstore/base/quote_for_message.h"
#include "server/base/log.h"

namespace engram {
AttachRefusal ReasonOf(const absl::Status& status, absl::string_view asked) {
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
      return LooksLikeAnId(asked) ? AttachRefusal::kUnknownId : AttachRefusal::kUnknownName;
    case absl::StatusCode::kDataLoss:
      return AttachRefusal::kFenced;
    case absl::StatusCode::kUnauthenticated:
      return AttachRefusal::kUnauthenticated;
    case absl::StatusCode::kPermissionDenied:
      return AttachRefusal::kPermissionDenied;
    case absl::StatusCode::kUnimplemented:
      return AttachRefusal::kNotOffered;
    case absl::StatusCode::kResourceExhausted:
      return AttachRefusal::kFull;
    case absl::StatusCode::kUnavailable:
      return AttachRefusal::kDraining;
    case absl::StatusCode::kInvalidArgument:
      return AttachRefusal::kInvalid;
    default:
      return AttachRefusal::kOther;
  }
}

void AttachRefusals::Add(AttachPath path, AttachRefusal reason, absl::string_view peer,
                         const absl::Status& status) {
  const auto at = static_cast<size_t>(path);
  const auto why = static_cast<size_t>(reason);
  counts_[at][why].fetch_add(1, std::memory_order_relaxed);
  recent_.Add(absl::StrCat("attach over ", kAttachPathNames[at]), kAttachRefusalNames[why], peer,
              status.message());
  const LogPace::Turn turn = pace_.Next();
  if (turn.left_out > 0) {
    LogEvent(*log_, spdlog::level::warn, "lines_left_out",
             {{"lines", turn.left_out}, {"of", "attach_refused"}},
             absl::StrCat(turn.left_out, " lines of refused attaches were left out"));
  }
  if (!turn.may_write) return;
  const std::string who = QuoteForMessage(peer);
  LogEvent(*log_, spdlog::level::info, "attach_refused",
           {{"transport", kAttachPathNames[at]},
            {"peer", who},
            {"reason", kAttachRefusalNames[why]},
            {"code", absl::StatusCodeToString(status.code())}},
           absl::StrCat("attach over ", kAttachPathNames[at], " from ", who, " refused (",
                        kAttachRefusalNames[why], "): ", QuoteForMessage(status.message())));
}

AttachRefusals::Counts AttachRefusals::Read() const {
  Counts counts{};
  for (size_t path = 0; path < kAttachPaths; ++path) {
    for (size_t why = 0; why < kAttachRefusals; ++why) {
      counts[path][why] = counts_[path][why].load(std::memory_order_relaxed);
    }
  }
  return counts;
}

}  // namespace engram
