// The memory of a ring: how a client that does not map the tables asks for rows and gets them.
// Version 1; proto/FORMATS.md has the page.
//
// One region for one client, made and sealed by the owner, written by both. A header, then slots;
// a slot holds row ids of one layer going there and their rows coming back. Slot n % kRingSlots is
// filled for the n-th piece (counted from 0, modulo 2^32) and is free again once the owner has
// completed it and the client has taken its rows. Both sides count for themselves: what lies here
// is only ever read once, copied, and then checked, for the other side may write anything at any
// time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace engram {

inline constexpr char kRingMagic[8] = {'E', 'N', 'G', 'R', 'R', 'I', 'N', 'G'};
inline constexpr uint32_t kRingVersion = 1;

// Enough to keep both sides busy while one copies; all rows together stay in a core's own caches.
inline constexpr uint32_t kRingSlots = 8;
inline constexpr uint64_t kRingSlotRowsBytes = 256 << 10;
inline constexpr uint32_t kRingSlotIds = 8192;
inline constexpr uint32_t kRingMessageBytes = 512;

// Each word that one side spins on while the other writes has a cache line of its own.
struct RingHeader {
  char magic[8];
  uint32_t version;
  uint32_t slots;
  // By the client: pieces submitted; a word to wake the owner by (the owner rings it, too, when it
  // ends).
  alignas(64) std::atomic<uint32_t> submitted;
  alignas(64) std::atomic<uint32_t> doorbell;
  // Threads of the client that sleep on `completed`.
  alignas(64) std::atomic<uint32_t> client_sleeps;
  // By the owner: pieces completed; whether it sleeps on the doorbell; once it serves no more, the
  // absl::StatusCode of why.
  alignas(64) std::atomic<uint32_t> completed;
  alignas(64) std::atomic<uint32_t> owner_sleeps;
  alignas(64) std::atomic<uint32_t> closed;
};

struct RingSlot {
  // By the client.
  alignas(64) std::atomic<uint32_t> sequence;  // the piece's number
  std::atomic<uint32_t> layer;
  std::atomic<uint32_t> rows;
  std::atomic<uint32_t> reserved;
  std::atomic<uint64_t> batch;  // pieces of one batch follow each other
  // By the owner.
  alignas(64) std::atomic<uint32_t> completed_sequence;
  std::atomic<uint32_t> code;  // absl::StatusCode; rows count with 0 alone
  std::atomic<uint32_t> message_bytes;
  char message[kRingMessageBytes];
};

inline constexpr uint64_t kRingHeaderBytes = 4096;
inline constexpr uint64_t kRingSlotHeaderBytes = 4096;
inline constexpr uint64_t kRingSlotIdsBytes = kRingSlotIds * sizeof(uint64_t);
inline constexpr uint64_t kRingSlotBytes =
    kRingSlotHeaderBytes + kRingSlotIdsBytes + kRingSlotRowsBytes;
inline constexpr uint64_t kRingBytes = kRingHeaderBytes + kRingSlots * kRingSlotBytes;
static_assert(sizeof(RingHeader) <= kRingHeaderBytes && sizeof(RingSlot) <= kRingSlotHeaderBytes);
static_assert((kRingSlots & (kRingSlots - 1)) == 0, "pieces are counted modulo 2^32");

// The most rows that one slot takes of a layer.
constexpr uint32_t RingSlotRows(uint32_t row_bytes) {
  const uint64_t rows = kRingSlotRowsBytes / row_bytes;
  return rows < kRingSlotIds ? static_cast<uint32_t>(rows) : kRingSlotIds;
}

// The places of a region, which is the caller's.
class RingView {
 public:
  explicit RingView(std::byte* region = nullptr) : region_(region) {}

  RingHeader& header() const { return *reinterpret_cast<RingHeader*>(region_); }
  RingSlot& slot(uint32_t piece) const { return *reinterpret_cast<RingSlot*>(At(piece)); }
  uint64_t* ids(uint32_t piece) const {
    return reinterpret_cast<uint64_t*>(At(piece) + kRingSlotHeaderBytes);
  }
  std::byte* rows(uint32_t piece) const {
    return At(piece) + kRingSlotHeaderBytes + kRingSlotIdsBytes;
  }

 private:
  std::byte* At(uint32_t piece) const {
    return region_ + kRingHeaderBytes + (piece % kRingSlots) * kRingSlotBytes;
  }
  std::byte* region_;
};

}  // namespace engram
