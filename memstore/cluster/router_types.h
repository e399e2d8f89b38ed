// What goes into the router and comes out of it: ids, actions, counters.
//
// Plain values. What an action asks for is done by whoever drives the router (connections, sends,
// copies); the router only says it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "memstore/base/clock.h"

namespace engram {

// None of these is 0, or used twice by one router.
using BatchId = uint64_t;
using AttemptId = uint64_t;  // its generation: rows of an attempt land where MayLand says so
using StoreId = uint32_t;

inline constexpr uint64_t kNoAttempt = 0;
inline constexpr StoreId kNoStore = 0;

// How rows of an attempt come into the caller's memory.
enum class LandingWay {
  kCopied,   // gRPC: by the client's own copy, which asks MayLand first
  kWritten,  // RDMA: by a device, until the queue pair is drained
};

enum class ActionKind {
  kSend,        // ask `store` for `part` of `batch`, but for layers that HasLanded, as `attempt`
  kCancel,      // end `attempt`, which lost or is not wanted any more; it still has to be ended
                // (Router::Reply, whatever comes)
  kDrain,       // put the queue pair of `attempt`'s store in error and drain it, then
                // Router::Drained; other attempts over it: Router::ConnectionBroken
  kLayer,       // the layer at `layer` of the batch is in place
  kLanded,      // the batch is in place: its one end, or
  kFailed,      // it failed with `status`: its one end
  kReleased,    // after kFailed: nothing may write to the batch's memory any more
  kEject,       // `store` is left alone for a while; `status` says why
  kTryAgain,    // `store` is asked again, first with one part
  kFence,       // `store` has damaged rows: nothing more is taken from this instance
  kSplitAgain,  // the columns of `part` are other pieces' by now, and nothing of it is under way:
                // split its layers that AreMissing by the map, and Router::TakeSplit
  kAskForMap,   // holdings are not as the map has them: ask what stores hold, and SetMap
  kForget,      // `store` is gone from the map and nothing is open there: close what leads to it
};

struct RouterAction {
  ActionKind kind = ActionKind::kSend;
  BatchId batch = 0;
  uint64_t tag = 0;  // the batch's, as it was submitted
  uint32_t part = 0;
  AttemptId attempt = kNoAttempt;
  StoreId store = kNoStore;
  LandingWay way = LandingWay::kCopied;
  uint32_t layer = 0;
  MonotonicTime deadline = MonotonicTime::Infinite();  // of what is sent
  absl::Status status = absl::OkStatus();
};

// Why a part is asked for again.
enum class ResendReason : uint8_t {
  kNone,
  kBroken,       // the connection broke
  kSilent,       // the store said nothing for kSilence
  kUnavailable,  // UNAVAILABLE, or a code that says no better
  kBusy,         // RESOURCE_EXHAUSTED, or turned away since it would be too late
  kNotHeld,      // FAILED_PRECONDITION: it does not hold the rows or the set
  kDamaged,      // DATA_LOSS
};
inline constexpr size_t kResendReasons = 7;

// Since the router was made; all but `open_*` only grow.
struct RouterCounters {
  uint64_t batches = 0;
  uint64_t landed = 0;
  uint64_t failed = 0;  // of the batches, deadlines and cancels included
  uint64_t deadlines = 0;
  uint64_t first_attempts = 0;
  uint64_t free_resends = 0;                        // connections that broke, once a part
  std::array<uint64_t, kResendReasons> resends{};   // out of the budget, by ResendReason
  std::array<uint64_t, kResendReasons> refusals{};  // for which the budget had none left
  uint64_t hedges = 0;
  uint64_t hedges_won = 0;
  uint64_t drains = 0;
  uint64_t cancels = 0;
  uint64_t split_again = 0;     // parts, for their pieces were gone
  uint64_t layers_dropped = 0;  // landed from a store that then turned out to be damaged
  uint64_t ejections = 0;
  uint64_t trials = 0;
  uint64_t fences = 0;
  uint64_t lies = 0;  // pieces that a store says it holds, refused, and is asked for no more
  uint64_t maps = 0;
  uint64_t maps_asked = 0;
  uint64_t open_batches = 0;
  uint64_t open_attempts = 0;
  // Of who hears the stores, and fills them in: tries that ended with a certificate or a token that
  // one side does not take, and words of stores that were left out, for they cannot be true.
  uint64_t strangers = 0;
  uint64_t left_out = 0;
};

// How a client has a store of its cluster.
enum class StoreSight : uint8_t {
  kUp,        // asked like any other
  kDraining,  // about to go: asked where no other can be
  kOnTrial,   // it failed, and is asked one part at a time
  kEjected,   // it failed, and is left alone for a while
  kFenced,    // its rows are damaged: asked no more
  kUnheard,   // its address is known, and it does not say what it holds
};
inline constexpr size_t kStoreSights = 6;

// A cluster as one client has it at the moment, for a person to look at.
struct ClusterView {
  struct Store {
    std::string address;
    StoreSight sight = StoreSight::kUp;
  };
  // Of each piece of the map: how many stores that are up hold it. Where every store has a K/N,
  // piece K is partition K.
  std::vector<uint32_t> up_stores_of_piece;
  std::vector<Store> stores;
  bool finds_addresses = true;  // what says where stores are answers
};

}  // namespace engram
