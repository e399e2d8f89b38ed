// Log lines of single lookups: those that failed, and at level debug every one.
//
// Belongs to one loop. Bounded: what would be more than kLinesPerSecond is counted, and the count
// told. A line has the request's id (the loop's number and its own), the peer, the code, and the
// caller's W3C traceparent where the call carried one. As events: lookup_refused is for who asked
// or what he asked for, or because others have what it takes; lookup_failed is every other error;
// at level debug lookup_answered.
#pragma once

#include <grpcpp/server_context.h>
#include <spdlog/logger.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "server/metrics/thread_metrics.h"

namespace engram {

// As its client names it; nothing where its message was not read.
struct LookupName {
  uint64_t batch_id = 0;
  absl::string_view table_set_id = {};
};

class RequestLog {
 public:
  // Enough to see what fails, few enough that a client which only fails fills no disk.
  static constexpr uint64_t kLinesPerSecond = 20;
  static constexpr uint64_t kDebugLinesPerSecond = 2000;

  // `clock` outlives it.
  RequestLog(std::shared_ptr<spdlog::logger> log, uint32_t loop, const Clock& clock)
      : log_(std::move(log)), loop_(loop), clock_(clock) {}

  // `rows`: of an answer that is OK.
  void Ended(Path path, const grpc::ServerContextBase& context, const LookupName& name,
             const absl::Status& status, uint64_t rows, std::chrono::nanoseconds took);

 private:
  bool MayWrite(uint64_t most);

  const std::shared_ptr<spdlog::logger> log_;
  const uint32_t loop_;
  const Clock& clock_;
  uint64_t requests_ = 0;
  MonotonicTime second_;  // that lines are counted in
  uint64_t lines_ = 0;
  uint64_t left_out_ = 0;
};

// The traceparent that a call carried: as W3C Trace Context has it, or empty.
std::string TraceparentOf(const grpc::ServerContextBase& context);

}  // namespace engram
