// How a thread waits for a word: what streams of the host backend do, and CUDA's where streams
// cannot wait by themselves.
//
// Stateless and thread-safe; spins for a while, then sleeps until Device::WordChanged wakes it.
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "gpu/device/device.h"

namespace engram {

// A sleeper looks again this often, should a word change without WordChanged.
inline constexpr absl::Duration kWordLookAgain = absl::Milliseconds(10);

inline bool WordPasses(uint32_t word, WordTest test, uint32_t value) {
  return test == WordTest::kAtLeast ? static_cast<int32_t>(word - value) >= 0 : (word & value) != 0;
}

void AwaitWord(const std::atomic<uint32_t>& word, WordTest test, uint32_t value,
               absl::Duration spin);

}  // namespace engram
