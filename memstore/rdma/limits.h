// What both ends of an RDMA connection keep to. Constants with reasons.
#pragma once

#include <cstdint>

namespace engram {

// A request, header and ids: 256 tokens of the widest model known (48 rows a token) with 4-byte ids
// take 49 KiB, so such a batch is one request. Larger batches are several.
inline constexpr uint32_t kRdmaRequestBytes = 64 << 10;
// Requests that one client may have under way: each has a receive buffer posted at the owner (1 MiB
// a client). More would only queue: the owner serves a client's requests one after the other.
inline constexpr uint32_t kRdmaCredits = 16;
// Tokens of a request by token ids: 49,152 row ids of the widest model known, addressed in 40 us,
// for which other clients wait. Sequences that are longer are cut by whoever has the addresser.
inline constexpr uint32_t kRdmaRequestTokens = 1024;
// Tokens before a sequence that a request may carry: the largest order's.
inline constexpr uint32_t kRdmaMostLookback = 7;
// Layers of one request, of which each may come back as an immediate; models have one to three.
inline constexpr uint32_t kRdmaRequestLayers = 16;
// What a client has posted to receive: every request's layers and a refusal.
inline constexpr uint32_t kRdmaClientReceives = kRdmaCredits * (kRdmaRequestLayers + 1);
// A refusal, with its text.
inline constexpr uint32_t kRdmaRefusalBytes = 512;
// Rows that the owner gathers before it posts them: long enough that a write's fixed cost does not
// show, short enough that other clients are soon served and the wire is busy meanwhile.
inline constexpr uint32_t kRdmaSlabBytes = 512 << 10;
// Slabs of a client: gathered, on the wire, waiting to be acknowledged.
inline constexpr uint32_t kRdmaSlabs = 4;
inline constexpr uint32_t kRdmaRingBytes = kRdmaSlabs * kRdmaSlabBytes;
// Work requests that the owner posts at once (rows that land in many places need many), and those
// that its queue holds.
inline constexpr uint32_t kRdmaTurnWrites = 64;
inline constexpr uint32_t kRdmaOwnerSendQueue = 2 * kRdmaTurnWrites + kRdmaCredits;
// The client asks for a completion of every eighth request: it has to learn of them only so that
// its queue does not fill.
inline constexpr uint32_t kRdmaSignalEvery = 8;
inline constexpr uint32_t kRdmaClientSendQueue = kRdmaCredits + 2 * kRdmaSignalEvery;
// A request of one token goes in the work request itself: no fetch of its bytes by the device.
inline constexpr uint32_t kRdmaInlineBytes = 512;
// Landing buffers that one client may declare: a few dozen are pinned once and used in turn.
inline constexpr uint32_t kRdmaWindows = 256;
// Clients of one engramd: inference workers of a rack, some times over. Each pins 3 MiB.
inline constexpr uint32_t kRdmaMaxClients = 64;
// READ mode: reads that a client posts before it asks for a completion, and those it has under way.
inline constexpr uint32_t kRdmaReadSignalEvery = 16;
inline constexpr uint32_t kRdmaReadQueue = 128;
// Tables are registered in pieces: one registration of hundreds of GiB takes a device's whole
// translation cache, and some devices refuse it.
inline constexpr uint64_t kRdmaPieceBytes = uint64_t{1} << 30;

// 4.096 us * 2^14 = 67 ms without an acknowledgement, three times: a peer that is gone is noticed
// within a second. (7 retries mean for ever with some devices.)
inline constexpr uint8_t kRdmaAckTimeout = 14;
inline constexpr uint8_t kRdmaRetries = 3;
// Credits see to it that a receive is always posted; a peer that posts none is let go soon.
inline constexpr uint8_t kRdmaReceiverNotReadyRetries = 3;
inline constexpr uint8_t kRdmaReceiverNotReadyTimer = 12;  // 0.64 ms

}  // namespace engram
