// What engramd does where clients have it hold more memory than it takes for them.
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"
#include "server/base/limits.h"
#include "server/base/log.h"
#include "server/engramd.h"

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
                              kMemoryLook, clock_));
  return absl::OkStatus();
}

void Engramd::MakeRoomInMemory(uint64_t bytes) {
  const MonotonicTime now = clock_->Now();
  const char* ended = "connections that sent most and took least";
  if (connections_.EndUnanswered(bytes) > 0) {
    connections_ended_ = now;
  } else if (now - connections_ended_ > kLettingGo) {
    // Of a Unix socket nothing is known but its calls; of all others, that no connection sent much.
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

}  // namespace engram
