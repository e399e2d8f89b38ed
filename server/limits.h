// What engramd takes at most. Constants with reasons. Not bounded by
// them yet: what protobuf builds of a request before it is looked at, and replies being sent.
#pragma once

#include <chrono>
#include <cstdint>

namespace engram {

// The whole message. gRPC's own default for what a client receives, so that any language's stub
// takes a reply as it is. A larger batch is asked for in parts, which the SDK does by itself.
inline constexpr uint64_t kMaxUnaryReplyBytes = 4 << 20;
// The narrowest rows are as wide as the widest ids, so no request that can be answered has more
// bytes of ids than its reply has of rows; the rest is framing.
inline constexpr uint64_t kMaxRequestBytes = kMaxUnaryReplyBytes + (64 << 10);
// Rows of one batch, over all its requests, where --max-batch-rows does not say otherwise: 87,381
// tokens of the widest model known, more than any prefill step.
inline constexpr uint64_t kDefaultMaxBatchRows = uint64_t{4} << 20;
// What --max-batch-rows may be set to: the ids of such a batch take 512 MiB in its client.
inline constexpr uint64_t kMostBatchRows = uint64_t{1} << 26;
// Lookups in the server at once, waiting ones included; each has a thread and a request, and
// addresses at most a reply's worth of rows: with what is below under 6 GiB of well-formed
// requests.
inline constexpr uint32_t kMaxLookups = 512;
// Bytes of rows in replies under way: beyond it a lookup waits before it is gathered.
inline constexpr uint64_t kMaxReplyBytesUnderWay = uint64_t{512} << 20;
// How long it waits at most; a server that is behind by more than that says so.
inline constexpr std::chrono::milliseconds kMaxAdmissionWait{1000};
// What a client that was turned away is told to wait.
inline constexpr std::chrono::milliseconds kRetryDelay{20};
// Lookups under way when engramd is told to stop have this long to finish. Below the 30 s that
// Kubernetes gives, and the 90 s of systemd.
inline constexpr std::chrono::seconds kDrainGrace{10};
// Threads beside those of lookups: health, reflection, Describe, Attach.
inline constexpr int kOtherThreads = 32;
// Connections at once: far more than a table's users have workers, and few enough that idle ones
// cost little beside a table (17 KiB each in gRPC).
inline constexpr uint64_t kMaxConnections = 16384;
// Descriptors that connections leave alone: engramd's own and gRPC's, about 20, with room to spare.
inline constexpr uint64_t kSpareFiles = 64;
// A connection that does not begin to speak HTTP/2 in this time is closed.
inline constexpr std::chrono::seconds kMaxHandshake{10};
// More readers than this wait for the same disks.
inline constexpr uint32_t kMaxLoadThreads = 64;
// A configuration is read whole before anything of it is known to be true.
inline constexpr uint64_t kMaxConfigBytes = 1 << 20;

}  // namespace engram
