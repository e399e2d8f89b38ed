// Room for rows between being gathered and being acknowledged: a ring over a buffer, taken in runs
// and freed in the order in which they were taken.
//
// Places count up for ever; what a place is freed by is the number that stood after taking it.
// Thread-compatible; allocates nothing.
#pragma once

#include <cstdint>

namespace engram {

class ReplyRing {
 public:
  explicit ReplyRing(uint64_t bytes) : bytes_(bytes) {}

  // Whether Take(bytes) has room now. `bytes` is at most half of the ring.
  bool Has(uint64_t bytes) const { return Skip(bytes) + bytes <= bytes_ - (head_ - tail_); }
  // The offset of a run of `bytes`, of which there is room.
  uint64_t Take(uint64_t bytes) {
    head_ += Skip(bytes);
    const uint64_t offset = head_ % bytes_;
    head_ += bytes;
    return offset;
  }
  // Everything taken so far: FreeTo(it) frees all that, and all before.
  uint64_t head() const { return head_; }
  void FreeTo(uint64_t head) { tail_ = head; }

 private:
  // What is left over at the end of the buffer by a run that does not fit there.
  uint64_t Skip(uint64_t bytes) const {
    const uint64_t to_end = bytes_ - head_ % bytes_;
    return bytes <= to_end ? 0 : to_end;
  }

  const uint64_t bytes_;
  uint64_t head_ = 0;
  uint64_t tail_ = 0;
};

}  // namespace engram
