#include "client/cluster/registered_landings.h"

#include <algorithm>

#include "memstore/base/status_macros.h"

namespace engram {

std::vector<RegisteredLandings::Link> RegisteredLandings::LinksNow() const {
  MutexLock lock(mutex_);
  return links_;
}

void RegisteredLandings::Register(absl::Span<std::byte> buffer) {
  MutexLock change(change_mutex_);
  for (const Link& link : LinksNow()) {
    const absl::Status status = link->Register(buffer);
    if (status.ok()) continue;
    Leave(link.get());
    on_unfit_(link, status);
  }
  // Last: from now on batches that land there are asked of links that know it.
  MutexLock lock(mutex_);
  buffers_.push_back(buffer);
}

void RegisteredLandings::Unregister(absl::Span<std::byte> buffer) {
  MutexLock change(change_mutex_);
  {
    MutexLock lock(mutex_);
    const auto at = std::find_if(buffers_.begin(), buffers_.end(), [&](const auto& one) {
      return one.data() == buffer.data() && one.size() == buffer.size();
    });
    if (at == buffers_.end()) return;
    buffers_.erase(at);
  }
  // One that does not know it forgets nothing.
  for (const Link& link : LinksNow()) link->Unregister(buffer).IgnoreError();
}

absl::Status RegisteredLandings::Join(const Link& link) {
  MutexLock change(change_mutex_);
  std::vector<absl::Span<std::byte>> buffers;
  {
    MutexLock lock(mutex_);
    buffers = buffers_;
  }
  for (const absl::Span<std::byte> buffer : buffers) {
    ENGRAM_RETURN_IF_ERROR(link->Register(buffer));
  }
  MutexLock lock(mutex_);
  links_.push_back(link);
  return absl::OkStatus();
}

void RegisteredLandings::Leave(const TicketedTransport* link) {
  MutexLock lock(mutex_);
  std::erase_if(links_, [&](const Link& one) { return one.get() == link; });
}

bool RegisteredLandings::Holds(const std::byte* data, uint64_t bytes) const {
  MutexLock lock(mutex_);
  return std::any_of(buffers_.begin(), buffers_.end(), [&](absl::Span<std::byte> buffer) {
    if (data < buffer.data()) return false;
    const auto offset = static_cast<uint64_t>(data - buffer.data());
    return offset <= buffer.size() && bytes <= buffer.size() - offset;
  });
}

}  // namespace engram
