// Clients that asked to attach and were refused: counted by the way they came and the reason, and
// told in the log, at most kLinesPerSecond lines a second of all ways together. The last ones, and
// those of lookups by callers who may not have them, are kept for the status page, and so are calls
// that end with their token.
//
// Thread-safe. Attaching is no hot path: a refusal costs an atomic addition and a short lock.
#pragma once

#include <spdlog/logger.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "memstore/base/clock.h"
#include "server/base/log_pace.h"
#include "server/metrics/refusal_log.h"

namespace engram {

enum class AttachPath : uint8_t { kGrpc, kShm, kRdma };
inline constexpr size_t kAttachPaths = 3;
inline constexpr std::array<const char*, kAttachPaths> kAttachPathNames = {"grpc", "shm", "rdma"};

enum class AttachRefusal : uint8_t {
  kUnknownId,         // no set of this id is served
  kUnknownName,       // nor of this name; or none was named, and there is not one alone
  kFenced,            // the set was found damaged
  kUnauthenticated,   // no token or certificate that is known
  kPermissionDenied,  // not this set, or not this user
  kVersion,           // of the protocol
  kNotOffered,        // a way that this engramd does not serve
  kFull,              // no room for another client
  kDraining,
  kInvalid,  // nothing that a client of engram's sends
  kOther,
};
inline constexpr size_t kAttachRefusals = 11;
inline constexpr std::array<const char*, kAttachRefusals> kAttachRefusalNames = {
    "unknown_id",        "unknown_name", "fenced",      "unauthenticated",
    "permission_denied", "version",      "not_offered", "full",
    "draining",          "invalid",      "other"};

// What an attach that ended with `status` was refused for; `asked` is the set that it named.
// Statuses do not tell versions from what is invalid: who refuses a version says kVersion itself.
AttachRefusal ReasonOf(const absl::Status& status, absl::string_view asked);

class AttachRefusals {
 public:
  using Counts = std::array<std::array<uint64_t, kAttachRefusals>, kAttachPaths>;
  static constexpr uint64_t kLinesPerSecond = 10;

  // `clock` outlives it.
  AttachRefusals(std::shared_ptr<spdlog::logger> log, const Clock* clock)
      : log_(std::move(log)), recent_(clock), pace_(kLinesPerSecond, clock) {}

  // `peer`: for people, as gRPC has it or "pid 12, uid 1000"; `status` is what the client is told.
  void Add(AttachPath path, AttachRefusal reason, absl::string_view peer,
           const absl::Status& status);
  // A lookup that was refused for who asked. ThreadMetrics counts it, and its loop logs it.
  void AddLookup(absl::string_view reason, absl::string_view peer, const absl::Status& status) {
    recent_.Add("lookup", reason, peer, status.message());
  }
  // A call that lasted, of a `way` ("watch"), which ends for its token was taken back.
  void AddEnded(absl::string_view way, absl::string_view peer, const absl::Status& status) {
    recent_.Add(way, "unauthenticated", peer, status.message());
  }
  Counts Read() const;
  std::vector<RecentRefusal> Recent() const { return recent_.Recent(); }

 private:
  const std::shared_ptr<spdlog::logger> log_;
  RefusalLog recent_;
  LogPace pace_;
  std::array<std::array<std::atomic<uint64_t>, kAttachRefusals>, kAttachPaths> counts_{};
};

}  // namespace engram
