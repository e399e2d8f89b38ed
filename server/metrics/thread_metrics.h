// What one thread counts of the lookups that it serves.
//
// One writer, any number of readers: counters are relaxed atomics that their thread alone adds to,
// on cache lines of their own, so that counting costs a few plain additions and nothing is shared.
// A reader may see a request counted whose rows are not yet. Nothing allocates.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "memstore/base/power_of_two_histogram.h"

namespace engram {

// The way a lookup came.
enum class Path : uint8_t { kGrpcStream, kGrpcUnary, kShmRing, kRdma };
inline constexpr size_t kPaths = 4;
inline constexpr std::array<const char*, kPaths> kPathNames = {"grpc_stream", "grpc_unary",
                                                               "shm_ring", "rdma"};

// Where a lookup's time goes.
enum class Stage : uint8_t { kPlan, kQueue, kGather, kSend };
inline constexpr size_t kStages = 4;
inline constexpr std::array<const char*, kStages> kStageNames = {"plan", "queue", "gather", "send"};

// Why a lookup was turned away before it was looked at.
enum class Rejection : uint8_t {
  kLate,
  kQueueFull,
  kBytesFull,
  kDraining,
  kUnauthenticated,
  kPermissionDenied
};
inline constexpr size_t kRejections = 6;
inline constexpr std::array<const char*, kRejections> kRejectionNames = {
    "late", "queue_full", "bytes_full", "draining", "unauthenticated", "permission_denied"};

class SingleWriterCounter {
 public:
  void Add(uint64_t value) {
    value_.store(value_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }
  uint64_t Read() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// 1 us to 1.05 s; the sum in nanoseconds. Between two powers of two there are kParts buckets of one
// width, so that a quantile is a quarter of its value off at worst.
struct LatencyHistogram {
  static constexpr size_t kParts = 4;
  static constexpr size_t kBounds = kParts * (kLatencyBounds - 1) + 1;

  // Bounds are counted in quarters of a microsecond.
  static constexpr uint64_t kBoundsPerSecond = 4'000'000;
  static constexpr uint64_t Bound(size_t i) { return (kParts + i % kParts) << (i / kParts); }
  static constexpr double BoundSeconds(size_t i) {
    return static_cast<double>(Bound(i)) / static_cast<double>(kBoundsPerSecond);
  }
  // The first bound that is not below it.
  static constexpr size_t IndexOf(uint64_t ns) {
    const uint64_t quarters = (ns + 249) / 250;
    if (quarters <= kParts) return 0;
    const int octave = std::bit_width(quarters - 1) - 3;
    const size_t at = kParts * static_cast<size_t>(octave) + (((quarters - 1) >> octave) - kParts);
    return at + 1 < kBounds ? at + 1 : kBounds;
  }

  void Record(uint64_t ns) {
    counts[IndexOf(ns)].Add(1);
    total.Add(ns);
  }

  std::array<SingleWriterCounter, kBounds + 1> counts;  // the last: above all bounds
  SingleWriterCounter total;
};
// 1 to 4^12 rows.
using RowsHistogram = PowerOfTwoHistogram<SingleWriterCounter, 13, 2>;

class alignas(64) ThreadMetrics {
 public:
  using Duration = std::chrono::nanoseconds;

  // A request was read. Each ends with one Answered.
  void Began() { began.Add(1); }
  // Its answer was handed over; `rows` and `bytes` of them are 0 unless it is OK.
  void Answered(Path path, absl::StatusCode code, uint64_t row_count, uint64_t byte_count,
                Duration took) {
    const auto at = static_cast<size_t>(path);
    requests[at][StatusCodeIndex(code)].Add(1);
    Record(request_seconds[at], took);
    ended.Add(1);
    if (code != absl::StatusCode::kOk) return;
    rows[at].Add(row_count);
    bytes[at].Add(byte_count);
    batch_rows.Record(row_count, row_count);
  }
  void RecordLatency(Stage stage, Duration took) {
    Record(stage_seconds[static_cast<size_t>(stage)], took);
  }
  // A lookup of `token_count` token ids was addressed here. `dead`: its mask, or empty; non-zero is
  // dead.
  void Addressed(uint64_t token_count, absl::Span<const uint8_t> dead) {
    if (token_count == 0) return;
    uint64_t dead_count = 0;
    for (const uint8_t one : dead) dead_count += one != 0 ? 1 : 0;
    token_lookups.Add(1);
    tokens.Add(token_count);
    dead_tokens.Add(dead_count);
    if (dead_count == token_count) all_dead_lookups.Add(1);
  }
  void Rejected(Rejection why) { rejections[static_cast<size_t>(why)].Add(1); }

  SingleWriterCounter began, ended;
  std::array<std::array<SingleWriterCounter, kStatusCodes>, kPaths> requests;
  std::array<SingleWriterCounter, kPaths> rows, bytes;
  std::array<LatencyHistogram, kPaths> request_seconds;
  std::array<LatencyHistogram, kStages> stage_seconds;
  RowsHistogram batch_rows;
  // Of lookups by token ids; those by row ids were addressed elsewhere.
  SingleWriterCounter token_lookups, all_dead_lookups, tokens, dead_tokens;
  std::array<SingleWriterCounter, kRejections> rejections;

 private:
  static void Record(LatencyHistogram& histogram, Duration took) {
    histogram.Record(static_cast<uint64_t>(took.count()));
  }
};

}  // namespace engram
