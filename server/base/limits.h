// What engramd takes at most. Constants with reasons.
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
// Rows of one batch where --max-batch-rows does not say otherwise (here of one request; the SDK
// holds all of a batch's together to it): 87,381 tokens of the widest model known, more than any
// prefill step.
inline constexpr uint64_t kDefaultMaxBatchRows = uint64_t{4} << 20;
// What --max-batch-rows may be set to: the ids of such a batch take 512 MiB in its client.
inline constexpr uint64_t kMostBatchRows = uint64_t{1} << 26;
// Rows of one message of a stream's answer: long enough that a message's fixed cost does not show,
// short enough that the first rows are under way while the next are gathered, and that a loop is
// soon back at its other clients (an eighth of a millisecond).
inline constexpr uint64_t kStreamMessageBytes = 512 << 10;
// A slab holds such a message, and the heads of as many layers as a table set may have.
inline constexpr uint64_t kSlabBytes = kStreamMessageBytes + (64 << 10);
// All replies under way are in these: 72 MiB.
inline constexpr uint32_t kSlabs = 128;
// Of what connections share - streams, calls, slabs, bytes of ids - each may hold as much as is
// left free (server/lookup/places.h): one alone half of it, and of a few that hold all that they
// can each leaves as much to the next one.
//
// Unary lookups in the server at once, from their first bytes to their answers.
inline constexpr uint32_t kMaxUnaryCalls = 512;
// A stream is a client's; each has a few KiB. When there are as many, the one that serves its
// client least is ended for the next one: before all others one that never took rows.
inline constexpr uint32_t kMaxStreams = 1024;
// A stream whose client took rows is not ended for another one's sake before it was idle for this
// long: longer than a decode step, or a prefill, keeps a worker from asking again.
inline constexpr std::chrono::seconds kMinIdle{5};
// Calls that last and cost next to nothing: Watch, reflection, AttachRdma until it is connected.
inline constexpr uint32_t kMaxSideCalls = 1024;
// The same for gRPC's health service, which has places of its own: nobody else can take them.
inline constexpr uint32_t kMaxHealthCalls = 1024;
// Holdings streams: a client of a cluster has one for as long as it lives, at every store, so they
// have places of their own. Ten thousand workers and some: with their connections 34 KiB each,
// 344 MiB, which leaves room for ids and answers in kCallMemoryBytes; and 0.27 of a core, for
// each is told 1.3 times a second (tests/bench/RESULTS.md, "Holdings streams").
inline constexpr uint32_t kMaxHoldingsCalls = 10'240;
// Sets that a client may say it uses on one: their ids fit a small message.
inline constexpr size_t kMaxUsedSets = 128;
// A client of one that takes nothing for this long is let go, and what it said it uses with it.
inline constexpr std::chrono::seconds kMaxHoldingsStall{10};
// Calls of one connection at once, all methods; more than an SDK client or a web server's stub has
// under way. Beyond it HTTP/2 lets the client wait.
inline constexpr int kMaxCallsPerConnection = 128;
// A message of the small methods, and of setting RDMA up: names and keys, a hundred bytes as a
// rule. It is parsed on a loop that serves lookups, where four megabytes took a tenth of a second.
inline constexpr size_t kMaxSmallMessageBytes = 16 << 10;
// Calls of the small methods (Attach, Describe) whose clients have not taken their answers yet;
// each may hold a manifest and a token map, half a megabyte: 64 MiB in all.
inline constexpr uint32_t kMaxUnaryMethodCalls = 128;
// What a call may send before it is read; gRPC's own default, said here because it is counted on.
// Beyond it gRPC takes no more than the message that is being read has, kMaxRequestBytes at most.
inline constexpr int kStreamWindowBytes = 65535;
// A request that is not whole after this time is not waited for.
inline constexpr std::chrono::seconds kMaxRequestTime{10};
// Memory that engramd takes from the heap beyond what it had when it began to serve: ids under way
// (112 MiB), answers of small methods (64 MiB), idle connections (17 KiB each), and requests that
// are not whole. Calls times the bytes of a request would be ten times as much, so what is taken is
// looked at (server/net/memory_guard.h), and beyond this connections that send without being
// answered are ended.
inline constexpr uint64_t kCallMemoryBytes = uint64_t{512} << 20;
// Where the process may have less than twice that (ulimit -v), half of what it may have. Below this
// it is told when it starts that few clients can be served at once.
inline constexpr uint64_t kLeastCallMemoryBytes = uint64_t{64} << 20;
// How often it is looked at: at ten Gb/s 25 MB come meanwhile.
inline constexpr std::chrono::milliseconds kMemoryLook{20};
// Batches of one stream that are read ahead. Beyond it, or beyond their bytes, the stream is not
// read: the client feels it as flow control.
inline constexpr size_t kMaxBatchesPerStream = 64;
inline constexpr uint64_t kMaxIdBytesPerStream = uint64_t{16} << 20;
// Bytes of ids, as they came and as they were addressed, of the batches under way (id_memory.h).
// What is each call's own: a decode step's, 8,192 row ids. Of all calls that is 48 MiB.
inline constexpr uint64_t kOwnIdBytes = 32 << 10;
// And what they share; a batch that finds it used up is turned away.
inline constexpr uint64_t kSharedIdBytes = uint64_t{64} << 20;
// How long a unary lookup waits for slabs at most; a server that is behind by more says so.
inline constexpr std::chrono::milliseconds kMaxSlabWait{1000};
// While slabs or the bytes for ids are short, a call whose client has not taken a message for this
// long is ended: it holds what others wait for. Half of it where its connection holds
// kSlabsOfLongStall more, a third where it holds twice as many more, and so on; kLeastWriteStall at
// least, in which a gigabit a second carries all that may be under way.
inline constexpr std::chrono::milliseconds kMaxWriteStall{2000};
inline constexpr std::chrono::milliseconds kLeastWriteStall{600};
inline constexpr uint32_t kSlabsOfLongStall = 8;
// What a client that was turned away is told to wait.
inline constexpr std::chrono::milliseconds kRetryDelay{20};
// How long a loop looks for the next event before it sleeps: a round trip's time, so that a client
// with one batch after the other finds it awake.
inline constexpr std::chrono::microseconds kDefaultSpin{50};
// What --spin-us may be set to: beyond it a core is only kept warm.
inline constexpr std::chrono::microseconds kMaxSpin{1000};
// What --lookup-threads may be set to; a socket's memory feeds a few.
inline constexpr uint32_t kMaxLookupThreads = 64;
// How long all goes on when engramd is told to stop, where --lame-duck-s does not say otherwise:
// who sends it clients by its health (a load balancer, Kubernetes' endpoints) has noticed by then,
// and nobody is refused.
inline constexpr std::chrono::seconds kDefaultLameDuck{1};
// Lookups under way when engramd is told to stop have this long to finish, where --drain-grace-s
// does not say otherwise. Below the 30 s that Kubernetes gives, and the 90 s of systemd.
inline constexpr std::chrono::seconds kDefaultDrainGrace{10};
// How long a retired table set waits for whoever is attached to it, where --retire-grace-s does not
// say otherwise: longer than any decode of a sequence that was begun on it.
inline constexpr std::chrono::seconds kDefaultRetireGrace{300};
// A client over gRPC has a table set for this long after its last batch: longer than a worker waits
// between steps.
inline constexpr std::chrono::seconds kGrpcLease{30};
// What both graces may be set to: a day.
inline constexpr std::chrono::seconds kMaxGrace{86400};
// Memory is verified again at this rate where --scrub-mib-per-s does not say otherwise: less than a
// thousandth of what a socket's memory delivers, and V4.1-Flash's 189 GiB within the hour.
inline constexpr uint32_t kDefaultScrubMibPerS = 64;
// What it may be set to; beyond it the scrubber takes from lookups what they need.
inline constexpr uint32_t kMaxScrubMibPerS = 16384;
// Connections at once: far more than a table's users have workers, and few enough that idle ones
// cost little beside a table (17 KiB each in gRPC).
inline constexpr uint64_t kMaxConnections = 16384;
// Descriptors that connections leave alone: engramd's own and gRPC's, about 20, with room to spare.
inline constexpr uint64_t kSpareFiles = 64;
// Of these, what operators' connections may take.
inline constexpr int kAdminFiles = 16;
// A connection that does not begin to speak HTTP/2 in this time is closed.
inline constexpr std::chrono::seconds kMaxHandshake{10};
// A connection that has been silent for kKeepAliveIdle is asked whether its peer is there; without
// an answer it is closed after half a minute.
inline constexpr std::chrono::seconds kKeepAliveIdle{60};
inline constexpr std::chrono::seconds kKeepAliveInterval{10};
inline constexpr int kKeepAliveProbes = 3;
// More readers than this wait for the same disks.
inline constexpr uint32_t kMaxLoadThreads = 64;
// A configuration is read whole before anything of it is known to be true.
inline constexpr uint64_t kMaxConfigBytes = 1 << 20;

}  // namespace engram
