// How many calls clients have begun that no loop has taken yet, and who waits because of it.
//
// gRPC 1.51 keeps calls that nobody has taken in a list without a bound, also those of connections
// that have ended. A loop takes what has come before it looks at sockets again, so that its own
// reads leave no more in that list than one look found. But any thread of the process that waits
// for gRPC reads every socket: of the operators' server, of etcd's client, of those who accept
// connections. They would fill the list as fast as clients send while the loops work it off. So,
// where loops are behind, such a thread waits before it reads from a client.
//
// It is the process's, as what gRPC polls is. Thread-safe. Cost: an atomic addition for each call,
// two stores where a loop finds nothing to do; for each read one comparison.
#pragma once

#include <atomic>
#include <cstdint>

#include "memstore/base/clock.h"

namespace engram {

// Of a loop: from here on its thread is one that takes calls.
class CallTaker {
 public:
  // Calls that wait to be taken while other threads go on reading: what a few hundred clients send
  // at once, and some milliseconds of a loop's work.
  static constexpr uint64_t kMostWaiting = 256;

  // On the loop's thread, as the destructor.
  CallTaker();
  ~CallTaker();
  CallTaker(const CallTaker&) = delete;
  CallTaker& operator=(const CallTaker&) = delete;

  void Took();
  // Nothing is left to do: what was begun until now was taken, or never came to be a call.
  void FoundNothing();

 private:
  friend class CallBacklog;
  // Of all calls, when this loop last found nothing.
  std::atomic<uint64_t> begun_{0}, taken_{0};
};

// `calls` more have come in what was read from clients.
void CallsBegan(uint64_t calls);
// As it is counted: a call that gRPC refuses by itself counts until every loop has found nothing to
// do. 0 where there is no loop.
uint64_t CallsWaiting();
// Before a read from a client, on any thread: returns at once on a loop's, or where few calls wait.
// Else when fewer than half of kMostWaiting do, after 100 ms at most.
void AwaitLoops(Clock& clock);

}  // namespace engram
