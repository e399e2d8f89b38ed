// How far something is that takes long, on standard error.
//
// "packing: 22 %, 41.2 of 189.0 GiB, 1.1 GiB per second, 2 min left", from the third second on: on
// a terminal one line that is drawn anew, elsewhere a line every ten seconds. Thread-compatible.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "memstore/base/clock.h"

namespace engram {

bool StandardErrorIsTerminal();

class Progress {
 public:
  explicit Progress(std::string what, const Clock& clock = RealClock(),
                    bool terminal = StandardErrorIsTerminal());
  ~Progress();  // EndLine

  // Of what is counted in bytes. `total` 0: nobody knows it, and neither the share nor the time
  // left is said: "looking up: 41.2 GiB, 1.1 GiB per second". The rate is that of the last half a
  // minute or so: what is read again at first, say, takes another time than what follows.
  void Update(uint64_t done, uint64_t total);
  // Before something else is written to standard error: what stands on a terminal's line stays
  // there, and the next line begins.
  void EndLine();
  // Whether a line is begun that EndLine would end.
  bool on_line() const;

 private:
  struct State;
  const Clock& clock_;
  std::unique_ptr<State> state_;
};

}  // namespace engram
