#include "client/transport/rdma/rdma_windows.h"

#include <algorithm>
#include <utility>

#include "memstore/base/status_macros.h"

namespace engram {

namespace {

constexpr char kUnregistered[] = "engram.unregistered";

}  // namespace

bool IsUnregistered(const absl::Status& status) {
  return status.GetPayload(kUnregistered).has_value();
}

RdmaWindows::Change::Change(RdmaWindows& windows, MonotonicTime deadline) : windows_(windows) {
  const MutexLock lock(windows.mutex_);
  while (windows.changing_) {
    const bool late = !windows.clock_.WaitUntil(windows.changed_, windows.mutex_, deadline);
    if (late && windows.changing_) return;
  }
  begun_ = windows.changing_ = true;
}

RdmaWindows::Change::~Change() {
  if (!begun_) return;
  const MutexLock lock(windows_.mutex_);
  windows_.changing_ = false;
  windows_.changed_.NotifyAll();
}

absl::Status RdmaWindows::MoveTo(const std::shared_ptr<RdmaConnection>& connection,
                                 MonotonicTime deadline) {
  if (reads_) return absl::OkStatus();  // nobody has a key
  const Change change(*this, deadline);
  if (!change.begun()) {
    return absl::UnavailableError(
        "landing buffers were being registered until the time for another connection was over");
  }
  std::vector<std::pair<uint32_t, const RdmaRegion*>> all;
  {
    const MutexLock lock(mutex_);
    for (const Window& window : windows_) all.emplace_back(window.number, &window.region);
  }
  // They stay where they are: nothing changes windows_ meanwhile.
  for (const auto& [number, region] : all) {
    ENGRAM_RETURN_IF_ERROR(connection->lease().Declare(number, *region, deadline));
  }
  connection_ = connection;
  return absl::OkStatus();
}

absl::Status RdmaWindows::Register(absl::Span<std::byte> buffer) {
  if (buffer.empty()) return absl::InvalidArgumentError("a landing buffer of no bytes");
  const Change change(*this);
  ENGRAM_ASSIGN_OR_RETURN(RdmaRegion region, RdmaRegion::Register(domain_, buffer, Access()));
  return Add(std::move(region));
}

absl::Status RdmaWindows::RegisterDmabuf(int fd, uint64_t offset, absl::Span<std::byte> buffer) {
  if (buffer.empty()) return absl::InvalidArgumentError("a landing buffer of no bytes");
  const Change change(*this);
  ENGRAM_ASSIGN_OR_RETURN(RdmaRegion region,
                          RdmaRegion::RegisterDmabuf(domain_, fd, offset, buffer, Access()));
  return Add(std::move(region));
}

// The owner has the key of what it may write; where this side reads, nobody has one.
absl::Status RdmaWindows::Add(RdmaRegion region) {
  const uint32_t number = next_number_++;
  if (const auto connection = connection_.lock(); connection != nullptr) {
    RdmaLease& lease = connection->lease();
    absl::Status declared = lease.Declare(number, region, MonotonicTime::Infinite());
    // An owner that is gone need not know; the next one is told.
    if (!declared.ok() && !lease.ended()) return declared;
  }
  const MutexLock lock(mutex_);
  windows_.push_back({number, std::move(region)});
  return absl::OkStatus();
}

absl::Status RdmaWindows::Unregister(absl::Span<std::byte> buffer) {
  const Change change(*this);
  Window window;
  {
    const MutexLock lock(mutex_);
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
  if (const auto connection = connection_.lock(); connection != nullptr) {
    static_cast<void>(connection->lease().Forget(window.number));
  }
  return absl::OkStatus();
}

absl::StatusOr<RdmaLandingPlace> RdmaWindows::Find(const std::byte* data, uint64_t bytes) const {
  const MutexLock lock(mutex_);
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
