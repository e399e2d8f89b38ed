#include "client/transport/failure_mark.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace engram {
namespace {

constexpr char kBroken[] = "engram/broken";
constexpr char kRetryAfterMs[] = "engram/retry-after-ms";

}  // namespace

void MarkBroken(absl::Status* status) { status->SetPayload(kBroken, absl::Cord()); }

bool IsBroken(const absl::Status& status) { return status.GetPayload(kBroken).has_value(); }

void MarkRetryAfter(absl::Duration delay, absl::Status* status) {
  status->SetPayload(kRetryAfterMs, absl::Cord(absl::StrCat(absl::ToInt64Milliseconds(delay))));
}

absl::Duration RetryAfterOf(const absl::Status& status) {
  const auto mark = status.GetPayload(kRetryAfterMs);
  int64_t ms = 0;
  if (!mark.has_value() || !absl::SimpleAtoi(std::string(*mark), &ms)) return absl::ZeroDuration();
  return absl::Milliseconds(ms);
}

}  // namespace engram
