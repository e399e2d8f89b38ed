// The landing buffers that a client of a cluster registered, and the links that have to know them:
// those over which a store's device writes. A link that is opened later is told of all.
//
// Memory stays the caller's. Thread-safe. Registering takes each such link a round trip to its
// store, and up to some seconds where a store does not answer; it never fails for that: a link that
// does not take a buffer is given up (OnUnfit), and its store reached in another way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "client/transport/ticketed_transport.h"
#include "memstore/base/mutex.h"

namespace engram {

class RegisteredLandings {
 public:
  using Link = std::shared_ptr<TicketedTransport>;
  // Called by whoever registers, in the middle of that change: it must not register anything.
  using OnUnfit = std::function<void(const Link& link, const absl::Status& why)>;

  explicit RegisteredLandings(OnUnfit on_unfit) : on_unfit_(std::move(on_unfit)) {}

  void Register(absl::Span<std::byte> buffer);
  // Of a buffer that was not registered: nothing.
  void Unregister(absl::Span<std::byte> buffer);

  // Tells the link of all buffers, and from now on of those that come and go. An error: the link's,
  // which has not joined.
  absl::Status Join(const Link& link);
  // Does not wait for a change.
  void Leave(const TicketedTransport* link);

  // Whether all of these bytes lie in one registered buffer. A short lock and a short list.
  bool Holds(const std::byte* data, uint64_t bytes) const;

 private:
  std::vector<Link> LinksNow() const;

  const OnUnfit on_unfit_;
  Mutex change_mutex_;  // one change at a time, over its round trips; before mutex_
  mutable Mutex mutex_;
  std::vector<absl::Span<std::byte>> buffers_ ABSL_GUARDED_BY(mutex_);
  std::vector<Link> links_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace engram
