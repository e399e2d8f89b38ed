// What engramd does where clients have it hold more memory than it takes for them.
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/human_units.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/engramd.h"
#include "server/net/http2_limits.h"
#include "server/net/socket_watch.h"

namespace engram {
namespace {

// Between looks for connections that are read no more.
constexpr std::chrono::seconds kUnreadLook{1};

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
                              kMemoryLook, clock_, [this] { LookAtConnections(); }));
  return absl::OkStatus();
}

void Engramd::MakeRoomInMemory(uint64_t bytes) {
  const MonotonicTime now = clock_->Now();
  const char* ended = "connections that sent most without an answer";
  std::string worst;
  if (connections_.EndUnanswered(bytes, &worst) > 0) {
    connections_ended_ = now;
  } else if (now - connections_ended_ > kLettingGo) {
    // No connection sent much: what is held is many times as large as what came.
    ended = "calls that wait for their clients";
    const bool even_served = bytes > call_memory_bytes_;
    uint64_t found = 0;
    for (Places* places :
         {&context_.unary_calls, &context_.unary_method_calls, &context_.side_calls,
          &context_.health_calls, &context_.holdings_calls, &context_.streams}) {
      while (found < bytes && places->EndOne(now, even_served)) found += kMaxRequestBytes;
    }
    if (found == 0) return;
  }
  if (now < next_memory_log_) return;
  next_memory_log_ = now + kMemoryLogInterval;
  LogEvent(*log_, spdlog::level::warn, "clients_ended_for_memory",
           {{"bytes", call_memory_bytes_}, {"peer", worst}},
           absl::StrCat("clients have engramd hold more than the ", call_memory_bytes_ >> 20,
                        " MiB that it takes for them: ", ended, " are ended",
                        worst.empty() ? "" : absl::StrCat(", most of all: ", worst)));
}

ConnectionsEnded Engramd::CountConnectionsEnded() const {
  const EndedForFrames frames = CountEndedForFrames();
  return {.long_header_block = frames.long_header_blocks,
          .idle_frames = frames.idle_frames,
          .memory = connections_.EndedUnanswered() + frames.unanswered,
          .unread = connections_.EndedUnread()};
}

// By the memory guard's thread, at each of its looks.
void Engramd::LookAtConnections() {
  LogEndedForFrames();
  const MonotonicTime now = clock_->Now();
  if (now < next_unread_look_) return;
  next_unread_look_ = now + absl::FromChrono(kUnreadLook);
  std::string peer;
  const size_t ended = connections_.EndUnread(now, &peer);
  if (ended == 0) return;
  LogEvent(*log_, spdlog::level::warn, "connections_ended_unread",
           {{"connections", ended}, {"peer", peer}},
           absl::StrCat("ended ", Counted(ended, "connection"), " whose peer takes no answers, ",
                        ended == 1 ? "" : "one of them ", "of ", peer));
}

void Engramd::LogEndedForFrames() {
  const EndedForFrames ended = CountEndedForFrames();
  const uint64_t all = ended.long_header_blocks + ended.idle_frames + ended.unanswered;
  if (all == logged_for_frames_ || clock_->Now() < next_frames_log_) return;
  logged_for_frames_ = all;
  next_frames_log_ = clock_->After(kMemoryLogInterval);
  LogEvent(
      *log_, spdlog::level::warn, "connections_ended_for_frames",
      {{"long_header_block", ended.long_header_blocks},
       {"idle_frames", ended.idle_frames},
       {"operators_unanswered", ended.unanswered}},
      absl::StrCat("connections are ended for their frames: so far ", ended.long_header_blocks,
                   " for header blocks beyond ", Http2Limits::kMaxHeaderBlockBytes >> 10,
                   " KiB or ", Http2Limits::kMaxHeaderBlockFrames, " frames, ", ended.idle_frames,
                   " for resets, pings and the like beyond ", Http2Limits::kIdleFramesAtOnce,
                   " at once and ", Http2Limits::kIdleFramesPerSecond, " per second, ",
                   ended.unanswered, " of operators for requests that never end"));
}

}  // namespace engram
