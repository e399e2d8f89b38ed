// On which NUMA nodes an arena's memory is placed.
//
// Stateless, thread-safe. On a machine or kernel without NUMA there is one node, 0.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace engram {

struct NumaPolicy {
  // kDefault: as the process is set up. kLocal: the node of the thread that maps the arena, others
  // when it is full. kInterleave: page by page over all nodes that have memory. kBind: `node` and
  // no other.
  enum class Kind { kDefault, kLocal, kInterleave, kBind };
  Kind kind = Kind::kDefault;
  int node = 0;  // kBind alone
};
// "local", "interleave", "bind:N"; INVALID_ARGUMENT names the text and the forms there are.
absl::StatusOr<NumaPolicy> ParseNumaPolicy(absl::string_view text);

// INVALID_ARGUMENT when the policy's node is not there, naming those that are.
absl::Status CheckNumaPolicy(const NumaPolicy& policy);
// Places the pages of a fresh mapping, none of them touched yet. The policy has been checked.
absl::Status ApplyNumaPolicy(const NumaPolicy& policy, std::byte* data, uint64_t bytes);

}  // namespace engram
