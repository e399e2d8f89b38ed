#include "client/transport/rdma/rdma_windows.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace engram {

namespace {

constexpr char kUnregistered[] = "engram.unregistered";

}  // namespace

bool IsUnregistered(const absl::Status& status) {
  return status.GetPayload(kUnregistered).has_value();
}

absl::Status RdmaWindows::Register(absl::Span<std::byte> buffer, RdmaLease* lease) {
  if (buffer.empty()) return absl::InvalidArgumentError("a landing buffer of no bytes");
  const std::lock_guard<std::mutex> change(change_mutex_);
  absl::StatusOr<RdmaRegion> region = RdmaRegion::Register(domain_, buffer, Access());
  return region.ok() ? Add(*std::move(region), lease) : region.status();
}

absl::Status RdmaWindows::RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer,
                                         RdmaLease* lease) {
  if (buffer.empty()) return absl::InvalidArgumentError("a landing buffer of no bytes");
  const std::lock_guard<std::mutex> change(change_mutex_);
  absl::StatusOr<RdmaRegion> region =
      RdmaRegion::RegisterDmabuf(domain_, fd, offset, buffer, Access());
  return region.ok() ? Add(*std::move(region), lease) : region.status();
}

// The owner has the key of what it may write; where this side reads, nobody has one.
absl::Status RdmaWindows::Add(RdmaRegion region, RdmaLease* lease) {
  const uint32_t number = next_number_++;
  if (!reads_ && lease != nullptr) {
    if (absl::Status status = lease->Declare(number, region); !status.ok()) return status;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  windows_.push_back({number, std::move(region)});
  return absl::OkStatus();
}

absl::Status RdmaWindows::Unregister(absl::Span<std::byte> buffer, RdmaLease* lease) {
  const std::lock_guard<std::mutex> change(change_mutex_);
  Window window;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = std::find_if(windows_.begin(), windows_.end(), [&](const Window& one) {
      return one.region.data() == buffer.data() && one.region.bytes() == buffer.size();
    });
    if (at == windows_.end()) {
      return absl::InvalidArgumentError("this buffer was not registered");
    }
    window = std::move(*at);
    windows_.erase(at);
  }
  // A connection that is gone has forgotten it.
  if (!reads_ && lease != nullptr) static_cast<void>(lease->Forget(window.number));
  return absl::OkStatus();
}

absl::Status RdmaWindows::DeclareAll(RdmaLease& lease) {
  if (reads_) return absl::OkStatus();
  const std::lock_guard<std::mutex> change(change_mutex_);
  for (const Window& window : windows_) {
    if (absl::Status status = lease.Declare(window.number, window.region); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<RdmaLandingPlace> RdmaWindows::Find(const std::byte* data, uint64_t bytes) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Window& window : windows_) {
    if (data < window.region.data()) continue;
    const auto offset = static_cast<uint64_t>(data - window.region.data());
    if (offset > window.region.bytes() || bytes > window.region.bytes() - offset) continue;
    return RdmaLandingPlace{window.number, offset, window.region.local_key()};
  }
  absl::Status status = absl::InvalidArgumentError(
      "its landing lies in no registered buffer: call Register for the buffer first");
  status.SetPayload(kUnregistered, absl::Cord());
  return status;
}

}  // namespace engram
