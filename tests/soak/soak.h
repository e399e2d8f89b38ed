// A client's part of a soak: batches of every kind for a while, each held against what it may be.
//
// Sizes, layers, landings, deadlines and what becomes of a batch (waited for, layer by layer too;
// polled, cancelled, reaped in flight, left behind by detaching) are drawn at random. A batch that
// is OK has every row checked; one that is not has a code that what was done to it allows:
//   DEADLINE_EXCEEDED   its deadline was short
//   CANCELLED           it was cancelled
//   RESOURCE_EXHAUSTED  over gRPC: the server had no room
//   UNAVAILABLE         over gRPC: this process had been stopped (SIGSTOP), so that the server may
//                       have ended its stream for the sake of others (kMaxWriteStall)
// Used by one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "memstore/base/clock.h"
#include "tests/soak/draws.h"
#include "tests/soak/soak_batch.h"
#include "tests/soak/wrong_requests.h"

namespace engram::soak {

struct SoakOptions {
  std::string target;
  AttachOptions attach;
  absl::Duration time;
  uint64_t seed = 1;
  uint64_t most_tokens = 5000;
  // Now and then a batch of as many rows as the target takes, but so many at most; 0: never.
  uint64_t largest_rows = 0;
};

struct SoakCounts {
  uint64_t batches = 0;                   // that Submit was called with, the wrong ones left out
  uint64_t rows = 0;                      // checked
  std::map<std::string, uint64_t> codes;  // of batches that were seen to their end
  uint64_t reaped = 0;                    // in flight
  uint64_t left = 0;                      // in flight when the client detached
  uint64_t wrong = 0;                     // requests that were refused as they must be
  uint64_t attached = 0;
  uint64_t largest = 0;
  std::vector<double> small_us;  // of small batches that were OK and had nothing beside them
};

class Soak {
 public:
  explicit Soak(const SoakOptions& options);
  // Until the time is over and every batch has ended, one at the least with its rows. The first
  // thing that is wrong ends it: the error says what.
  absl::Status Run();
  const SoakCounts& counts() const { return counts_; }

 private:
  static constexpr size_t kMostInFlight = 8;
  enum class Fate { kWait, kWaitLayers, kWaitLayerAndCancel, kPoll, kCancel, kCancelLate, kReap };
  struct Slot {
    SoakBatch batch;
    bool in_flight = false;
    Ticket ticket;
    Fate fate = Fate::kWait;
    bool may_be_late = false;
    bool alone = false;
    MonotonicTime begun;
    uint64_t stops = 0;  // of this process when it was begun
    size_t layers_in_place = 0;
  };

  absl::Status Attach();
  absl::Status Reattach();
  absl::Status Step();
  absl::Status Begin();
  absl::Status Submit(Slot& slot);
  absl::Status End(Slot& slot);
  absl::Status WaitAsDrawn(Slot& slot);
  absl::Status WaitForLayers(Slot& slot, size_t count);
  absl::Status PollAndWait(Slot& slot);
  absl::Status WaitAndCancel(Slot& slot);
  absl::Status Judge(Slot& slot, const absl::Status& outcome);
  bool Allows(const Slot& slot, absl::StatusCode code);
  absl::Status CheckLanded(Slot& slot);
  absl::Status Reap(Slot& slot);
  absl::Status AskWrongly();
  bool WasStopped(uint64_t stops_before, MonotonicTime begun) const;
  Slot* Pick(bool in_flight);
  Fate DrawFate();
  MonotonicTime DrawDeadline(Slot& slot);

  const SoakOptions options_;
  Draws draws_;
  std::unique_ptr<Client> client_;
  bool over_grpc_ = false;
  std::unique_ptr<WrongRequests> by_hand_;  // over gRPC
  std::array<Slot, kMostInFlight> slots_;
  size_t in_flight_ = 0;
  size_t most_in_flight_ = 1;
  uint64_t stops_seen_ = 0;
  MonotonicTime stopped_until_ = MonotonicTime();
  absl::Status wrong_;  // what Wait of a layer found, beside the batch's outcome
  SoakCounts counts_;
};

// From here on the process counts how often it was continued after a SIGSTOP.
void CountStops();

}  // namespace engram::soak
