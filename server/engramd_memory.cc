// What engramd does where clients have it hold more memory than it takes for them.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/engramd.h"
#include "server/net/http2_limits.h"
#include "server/net/socket_watch.h"

namespace engram {
namespace {

// Between lines about memory, however often it is short.
constexpr absl::Duration kMemoryLogInterval = absl::Seconds(5);
// What connections held that were ended is free after this time, if not at once.
constexpr absl::Duration kLettingGo = absl::Milliseconds(200);

}  // namespace

// Once all that engramd takes by itself is there.
absl::Status Engramd::StartMemoryGuard() {
  MemoryBound bound(CallMemoryBytes(), ProcessMemory());
  call_memory_bytes_ = bound.most_bytes();
  if (call_memory_bytes_ < kLeastCallMemoryBytes) {
    LogEvent(
        *log_, spdlog::level::warn, "memory_is_little", {{"bytes", call_memory_bytes_}},
        absl::StrCat("this process may take ", call_memory_bytes_ >> 20,
                     " MiB more for its clients: few are served at once; raise the limit of ",
                     "its address space (ulimit -v) by ", (2 * kCallMemoryBytes) >> 20, " MiB"));
  }
  ENGRAM_ASSIGN_OR_RETURN(memory_guard_,
                          MemoryGuard::Start(
                              std::move(bound), [this](uint64_t bytes) { MakeRoomInMemory(bytes); },
                              kMemoryLook, clock_, [this] { LogEndedForFrames(); }));
  return absl::OkStatus();
}

void Engramd::MakeRoomInMemory(uint64_t bytes) {
  const MonotonicTime now = clock_->Now();
  const char* ended = "connections that sent most without an answer";
  // Operators' first: they have no need of much, and lookups are not ended for what they sent.
  uint64_t ended_bytes = admin_ == nullptr ? 0 : admin_->connections().EndUnanswered(bytes);
  if (ended_bytes < bytes) ended_bytes += connections_.EndUnanswered(bytes - ended_bytes);
  if (ended_bytes > 0) {
    connections_ended_ = now;
  } else if (now - connections_ended_ > kLettingGo) {
    // No connection sent much: what is held is many times as large as what came.
    ended = "calls that wait for their clients";
    const bool even_served = bytes > call_memory_bytes_;
    uint64_t found = 0;
    for (Places* places : {&context_.unary_calls, &context_.unary_method_calls,
                           &context_.side_calls, &context_.health_calls, &context_.streams}) {
      while (found < bytes && places->EndOne(now, even_served)) found += kMaxRequestBytes;
    }
    if (found == 0) return;
  }
  if (now < next_memory_log_) return;
  next_memory_log_ = now + kMemoryLogInterval;
  LogEvent(*log_, spdlog::level::warn, "clients_ended_for_memory", {{"bytes", call_memory_bytes_}},
           absl::StrCat("clients have engramd hold more than the ", call_memory_bytes_ >> 20,
                        " MiB that it takes for them: ", ended, " are ended"));
}

ConnectionsEnded Engramd::CountConnectionsEnded() const {
  const EndedForFrames frames = CountEndedForFrames();
  return {.long_header_block = frames.long_header_blocks,
          .idle_frames = frames.idle_frames,
          .memory = connections_.EndedUnanswered()};
}

void Engramd::LogEndedForFrames() {
  const EndedForFrames ended = CountEndedForFrames();
  const uint64_t all = ended.long_header_blocks + ended.idle_frames;
  if (all == logged_for_frames_ || clock_->Now() < next_frames_log_) return;
  logged_for_frames_ = all;
  next_frames_log_ = clock_->After(kMemoryLogInterval);
  log_->warn(
      "connections are ended for their frames (so far {} for header blocks beyond {} KiB or {} "
      "frames, {} for resets, pings and the like, beyond {} at once and {} per second)",
      ended.long_header_blocks, Http2Limits::kMaxHeaderBlockBytes >> 10,
      Http2Limits::kMaxHeaderBlockFrames, ended.idle_frames, Http2Limits::kIdleFramesAtOnce,
      Http2Limits::kIdleFramesPerSecond);
}

}  // namespace engram
