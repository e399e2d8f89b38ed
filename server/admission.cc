#include "server/admission.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace engram {

absl::StatusOr<Admission::Permit> Admission::Enter(uint64_t reply_bytes,
                                                   std::chrono::system_clock::time_point deadline) {
  const auto now = std::chrono::system_clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  if (lookups_ >= limits_.lookups) {
    return absl::ResourceExhaustedError(
        absl::StrCat("engramd has ", lookups_, " lookups under way, the most it takes: ask again"));
  }
  const auto has_room = [&] {
    return reply_bytes_ == 0 || (reply_bytes_ <= limits_.reply_bytes &&
                                 reply_bytes <= limits_.reply_bytes - reply_bytes_);
  };
  ++lookups_;
  if (!left_.wait_until(lock, std::min(deadline, now + limits_.wait), has_room)) {
    --lookups_;
    if (deadline <= now + limits_.wait) {
      return absl::DeadlineExceededError("the deadline passed while the lookup waited its turn");
    }
    return absl::ResourceExhaustedError(absl::StrCat("engramd has ", reply_bytes_,
                                                     " bytes of replies under way, and ",
                                                     reply_bytes, " more do not fit: ask again"));
  }
  reply_bytes_ += reply_bytes;
  return Permit(this, reply_bytes);
}

void Admission::Leave(uint64_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    --lookups_;
    reply_bytes_ -= bytes;
  }
  left_.notify_all();
}

}  // namespace engram
