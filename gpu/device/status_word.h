// The word that says what became of one layer of one step: the step's generation above two bits of
// state.
//
// A generation is a step's number, cut to 30 bits; words are compared cyclically, so it may wrap.
// For device code as well.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define ENGRAM_WORD_FUNCTION __host__ __device__
#else
#define ENGRAM_WORD_FUNCTION
#endif

namespace engram {

enum class RowState : uint32_t {
  kNone = 0,      // never prefetched
  kInFlight = 1,  // its rows are undefined
  kLanded = 2,    // its rows are in place, byte for byte
  kFailed = 3,    // its rows are undefined, the gate is 0, and Finish has the error
};

// Set in the two states that a layer ends with: what a stream waits for.
inline constexpr uint32_t kEndedBit = 2;

ENGRAM_WORD_FUNCTION constexpr uint32_t StatusWord(uint64_t generation, RowState state) {
  return (static_cast<uint32_t>(generation) << 2) | static_cast<uint32_t>(state);
}
ENGRAM_WORD_FUNCTION constexpr RowState StateOf(uint32_t word) {
  return static_cast<RowState>(word & 3);
}
// Whether a layer's gate may be open. When not it is 0 and the rows are not to be used at all: they
// are undefined, and 0 times NaN is NaN.
ENGRAM_WORD_FUNCTION constexpr bool GateMayOpen(uint32_t word) {
  return StateOf(word) == RowState::kLanded;
}

}  // namespace engram

#undef ENGRAM_WORD_FUNCTION
