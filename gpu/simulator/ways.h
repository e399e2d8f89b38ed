// The ways to rows that the simulator compares, behind one interface: what an engine does for a
// step's rows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "gpu/device/device.h"
#include "gpu/prefetch/prefetcher.h"
#include "gpu/simulator/traffic.h"

namespace engram::simulator {

class Way {
 public:
  virtual ~Way() = default;
  // Starts fetching the step's rows; at most two steps are begun and not ended.
  virtual absl::Status Begin(const TrafficStep& step) = 0;
  // Of the oldest step begun: enqueues what makes the layer's rows be in place, and says where they
  // are.
  virtual absl::StatusOr<const std::byte*> Enter(const TrafficStep& step, uint32_t layer,
                                                 Stream& stream) = 0;
  // The oldest step is over.
  virtual absl::Status End() = 0;
  virtual HotCacheCounts hot_cache() const { return {}; }
};

// Over a transport, with the prefetcher; rows that are not bf16 are dequantised as they arrive.
struct PrefetchedOptions {
  FetchPath path = FetchPath::kTransport;
  uint32_t max_tokens = 0;
  uint64_t hot_cache_bytes = 0;
};
absl::StatusOr<std::unique_ptr<Way>> MakePrefetched(Client& client, Device& device,
                                                    const PrefetchedOptions& options);
// Rows resident beside the compute: addressed, gathered and dequantised on the stream itself, out
// of the client's tables or, where the device has memory of its own, a copy of them there.
absl::StatusOr<std::unique_ptr<Way>> MakeResident(Client& client, Device& device,
                                                  uint32_t max_tokens, uint32_t max_sequences);

}  // namespace engram::simulator
