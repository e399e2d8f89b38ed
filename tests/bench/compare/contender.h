// One way to fetch rows, as the comparison sees it, and the loop that a contender's program runs.
//
// A program hosts contenders of one kind and is told on standard input, a line each, which one to
// run for how long; it answers a line of JSON. One round runs at a time over all programs, so that
// contenders take turns however many processes they are (compare.py). Rows are V4.1's, uniform over
// the layer, from pools that were filled before; they land layer after layer, back to back, and the
// last batch of every lane is held against what the rows must be once the clock has stopped.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace engram::bench {

// V4.1's shape.
inline constexpr uint32_t kRowBytes = 264;
inline constexpr size_t kLayers = 2;
inline constexpr uint64_t kColumns = 24;
inline constexpr uint64_t kTokenRows = kLayers * kColumns;
inline constexpr uint64_t kTokenBytes = kTokenRows * kRowBytes;
// The largest batch, and the most batches of a client under way.
inline constexpr uint64_t kMaxTokens = 4096;
inline constexpr size_t kMaxInFlight = 8;

struct Layer {
  uint32_t number = 0;  // the synthetic rule's
  uint64_t rows = 0;
};
using Layers = std::array<Layer, kLayers>;

struct Batch {
  uint64_t tokens = 0;
  std::array<const uint64_t*, kLayers> ids;    // tokens * kColumns each
  std::array<const uint32_t*, kLayers> ids32;  // the same ones
  std::byte* landing = nullptr;                // tokens * kTokenBytes

  uint64_t layer_rows() const { return tokens * kColumns; }
  std::byte* layer_landing(size_t layer) const {
    return landing + layer * layer_rows() * kRowBytes;
  }
};

// One client of a contender, used by one thread. Up to kMaxInFlight batches are under way, each in
// a slot; they are ended in the order in which they were begun. A batch lives until it has ended.
class Lane {
 public:
  virtual ~Lane() = default;
  virtual absl::Status Begin(size_t slot, const Batch& batch) = 0;
  // Returns when the rows have landed. One that works in Begin or here alone is right too.
  virtual absl::Status End(size_t slot, const Batch& batch) = 0;
};

class Contender {
 public:
  virtual ~Contender() = default;
  virtual absl::StatusOr<std::unique_ptr<Lane>> NewLane() = 0;
  // An echo carries as many bytes as rows would be, and no rows.
  virtual bool lands_rows() const { return true; }
};

using Contenders = std::map<std::string, std::unique_ptr<Contender>>;

// "NUMBER:ROWS,NUMBER:ROWS", as the driver passes it.
absl::StatusOr<Layers> ParseLayers(const std::string& text);
// For stores of one key space: the layers' rows one after the other.
uint64_t TotalRows(const Layers& layers);
// Row `key` of that key space.
void FillRow(const Layers& layers, uint64_t key, absl::Span<std::byte> row);

// Answers rounds until standard input ends: "NAME TOKENS CLIENTS IN_FLIGHT MILLISECONDS" with
// {"batches", "p50_us", "p99_us", "rows_per_s"}. Returns the exit status: 1 after the
// first error, which it prints.
int ServeRounds(const std::string& program, Contenders contenders, const Layers& layers);
// Prints an error as ServeRounds does; returns 1.
int Failed(const std::string& program, const absl::Status& status);

}  // namespace engram::bench
