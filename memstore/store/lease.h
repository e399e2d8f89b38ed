// Who holds a table set from outside: counts by the way they came, for deciding when a
// superseded set is retired and for saying who keeps it.
//
// A Lease is held by whoever serves one client, for as long as the client has the set. Clients over
// gRPC that say what they use, on a Holdings stream, have one; others have no object of their own:
// theirs is renewed by use (TableSetRegistry::RegisteredSet).
// Thread-safe.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "memstore/base/check.h"

namespace engram {

enum class LeaseKind : uint8_t { kMapped, kRing, kRdmaWrite, kRdmaRead, kHoldings };
inline constexpr size_t kLeaseKinds = 5;

class LeaseCounts {
 public:
  uint32_t of(LeaseKind kind) const { return counts_[static_cast<size_t>(kind)].load(); }
  uint32_t Total() const {
    uint32_t total = 0;
    for (const auto& count : counts_) total += count.load();
    return total;
  }

 private:
  friend class Lease;
  std::array<std::atomic<uint32_t>, kLeaseKinds> counts_{};
};

class Lease {
 public:
  Lease() = default;
  Lease(std::shared_ptr<LeaseCounts> counts, LeaseKind kind)
      : counts_(std::move(counts)), kind_(kind) {
    counts_->counts_[static_cast<size_t>(kind_)].fetch_add(1);
  }
  Lease(Lease&& other) noexcept : counts_(std::move(other.counts_)), kind_(other.kind_) {}
  Lease& operator=(Lease&& other) noexcept {
    std::swap(counts_, other.counts_);
    std::swap(kind_, other.kind_);
    return *this;
  }
  ~Lease() {
    if (counts_ == nullptr) return;
    const uint32_t held = counts_->counts_[static_cast<size_t>(kind_)].fetch_sub(1);
    ENGRAM_CHECK(held > 0, "a lease was given back twice");
  }

 private:
  std::shared_ptr<LeaseCounts> counts_;
  LeaseKind kind_ = LeaseKind::kMapped;
};

}  // namespace engram
