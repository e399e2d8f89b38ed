#include "gpu/device/word_wait.h"

#include "memstore/os/futex.h"

namespace engram {

void AwaitWord(const std::atomic<uint32_t>& word, WordTest test, uint32_t value,
               absl::Duration spin) {
  const auto passes = [&] { return WordPasses(word.load(std::memory_order_acquire), test, value); };
  if (SpinUntil(passes, spin)) return;
  for (;;) {
    const uint32_t seen = word.load(std::memory_order_acquire);
    if (WordPasses(seen, test, value)) return;
    FutexWait(word, seen, kWordLookAgain);
  }
}

}  // namespace engram
