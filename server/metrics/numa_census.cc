#include "server/metrics/numa_census.h"

#include <algorithm>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

// Of the time, so much is spent on counting at most.
constexpr double kIntervalPerCost = 1000;

// "N3=1200": 1200 of the line's pages on node 3.
bool ParseNode(absl::string_view word, uint32_t* node, uint64_t* pages) {
  if (!absl::ConsumePrefix(&word, "N")) return false;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(word, absl::MaxSplits('=', 1));
  return absl::SimpleAtoi(parts.first, node) && absl::SimpleAtoi(parts.second, pages);
}

}  // namespace

BytesByNode CountBytesByNode(std::istream& numa_maps) {
  BytesByNode bytes;
  for (std::string line; std::getline(numa_maps, line);) {
    BytesByNode pages;
    uint64_t page_kib = 0;
    for (absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
      uint32_t node = 0;
      uint64_t count = 0;
      if (ParseNode(word, &node, &count)) pages[node] += count;
      if (absl::ConsumePrefix(&word, "kernelpagesize_kB=") && !absl::SimpleAtoi(word, &page_kib)) {
        page_kib = 0;
      }
    }
    for (const auto& [node, count] : pages) bytes[node] += count * page_kib * 1024;
  }
  return bytes;
}

BytesByNode ReadBytesByNode() {
  std::ifstream file("/proc/self/numa_maps");
  return CountBytesByNode(file);
}

void NumaCensus::Refresh() {
  const MonotonicTime before = clock_->Now();
  {
    MutexLock lock(mutex_);
    if (counting_ || before < next_) return;
    counting_ = true;
  }
  BytesByNode bytes = read_();
  const MonotonicTime after = clock_->Now();
  MutexLock lock(mutex_);
  bytes_ = std::move(bytes);
  next_ = after + std::max(kInterval, kIntervalPerCost * (after - before));
  counting_ = false;
}

BytesByNode NumaCensus::Read() const {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace engram
