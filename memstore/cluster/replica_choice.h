// Which replica of a piece a client asks.
//
// Of all that hold it a client keeps three (rendezvous hashing by the client's and the store's
// instance id): connections stay few, and every store has its share of the clients. Of those it
// takes two at random and asks the one with fewer bytes outstanding, which keeps queues short
// without anybody knowing them all. Stores of the client's zone come before others, draining ones
// last.
//
// Belongs to one thread at a time. Choose allocates nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <random>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace engram {

// The same in every process and version: a client keeps its replicas when it starts again.
uint64_t HashOfInstance(absl::string_view instance_id);

struct Replica {
  uint32_t store = 0;
  uint64_t hash = 0;  // HashOfInstance
  bool same_zone = false;
  bool draining = false;
  // Those of a lower one are asked as long as there is any.
  int Rank() const { return (draining ? 2 : 0) + (same_zone ? 0 : 1); }
};

class ReplicaChoice {
 public:
  // Three: a store that is lost leaves two to choose from, and of ten thousand clients and a
  // hundred replicas each has some three hundred connections and not ten thousand.
  static constexpr size_t kKept = 3;

  explicit ReplicaChoice(uint64_t client_hash) : client_hash_(client_hash) {}

  // Keeps the best of those that may be used now; called again whenever one is ejected or comes
  // back, so that its place is filled.
  void Keep(absl::Span<const Replica> usable);
  absl::Span<const Replica> kept() const { return {kept_.data(), count_}; }

  // A kept store of the lowest rank among those that may_ask(store) accepts. Two of them are drawn,
  // and the one with fewer outstanding(store) is taken.
  template <typename MayAsk, typename Outstanding>
  std::optional<uint32_t> Choose(std::mt19937_64& random, MayAsk&& may_ask,
                                 Outstanding&& outstanding) const {
    std::array<uint32_t, kKept> drawn;
    size_t count = 0;
    int rank = 0;
    for (const Replica& replica : kept()) {
      if (!may_ask(replica.store)) continue;
      if (count > 0 && replica.Rank() > rank) break;  // kept_ ascends by rank
      rank = replica.Rank();
      drawn[count++] = replica.store;
    }
    if (count == 0) return std::nullopt;
    if (count == 1) return drawn[0];
    const size_t one = Below(random, count);
    size_t other = Below(random, count - 1);
    if (other >= one) ++other;
    return outstanding(drawn[other]) < outstanding(drawn[one]) ? drawn[other] : drawn[one];
  }

 private:
  static size_t Below(std::mt19937_64& random, size_t bound) {
    return static_cast<size_t>((random() >> 32) * bound >> 32);
  }

  const uint64_t client_hash_;
  std::array<Replica, kKept> kept_{};
  size_t count_ = 0;
};

}  // namespace engram
