#include "memstore/store/numa_policy.h"

#include <numa.h>
#include <numaif.h>
#include <sched.h>

#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace engram {
namespace {

using NodeMask = std::unique_ptr<bitmask, decltype(&numa_free_nodemask)>;

bool HasNuma() { return numa_available() >= 0; }

// The nodes that have memory which this process may use.
NodeMask AllowedNodes() { return NodeMask(numa_get_mems_allowed(), &numa_free_nodemask); }

std::vector<int> NodesThere() {
  if (!HasNuma()) return {0};
  std::vector<int> nodes;
  const NodeMask allowed = AllowedNodes();
  for (int node = 0; node <= numa_max_node(); ++node) {
    if (numa_bitmask_isbitset(allowed.get(), node)) nodes.push_back(node);
  }
  return nodes;
}

}  // namespace

absl::StatusOr<NumaPolicy> ParseNumaPolicy(absl::string_view text) {
  if (text == "local") return NumaPolicy{NumaPolicy::Kind::kLocal, 0};
  if (text == "interleave") return NumaPolicy{NumaPolicy::Kind::kInterleave, 0};
  absl::string_view number = text;
  int node = 0;
  if (absl::ConsumePrefix(&number, "bind:") && absl::SimpleAtoi(number, &node) && node >= 0) {
    return NumaPolicy{NumaPolicy::Kind::kBind, node};
  }
  return absl::InvalidArgumentError(
      absl::StrCat("NUMA policy \"", text,
                   "\" is unknown; use local, interleave or bind:N (N a node's number)"));
}

absl::Status CheckNumaPolicy(const NumaPolicy& policy) {
  if (policy.kind != NumaPolicy::Kind::kBind) return absl::OkStatus();
  const std::vector<int> nodes = NodesThere();
  for (const int node : nodes) {
    if (node == policy.node) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "NUMA node ", policy.node, " is not there or has no memory for this process; use ",
      nodes.size() == 1 ? "node " : "one of the nodes ", absl::StrJoin(nodes, ", ")));
}

absl::Status ApplyNumaPolicy(const NumaPolicy& policy, std::byte* data, uint64_t bytes) {
  if (policy.kind == NumaPolicy::Kind::kDefault || !HasNuma()) return absl::OkStatus();
  const NodeMask nodes(numa_allocate_nodemask(), &numa_free_nodemask);
  int mode = MPOL_DEFAULT;
  switch (policy.kind) {
    case NumaPolicy::Kind::kLocal:
      // Not MPOL_LOCAL: that is the node of each thread which touches a page first, and a set is
      // loaded by several.
      mode = MPOL_PREFERRED;
      numa_bitmask_setbit(nodes.get(), numa_node_of_cpu(sched_getcpu()));
      break;
    case NumaPolicy::Kind::kInterleave:
      mode = MPOL_INTERLEAVE;
      copy_bitmask_to_bitmask(AllowedNodes().get(), nodes.get());
      break;
    case NumaPolicy::Kind::kBind:
      mode = MPOL_BIND;
      numa_bitmask_setbit(nodes.get(), policy.node);
      break;
    case NumaPolicy::Kind::kDefault:
      break;
  }
  // The kernel takes the mask's length as one more than the bits it reads.
  if (mbind(data, bytes, mode, nodes->maskp, nodes->size + 1, 0) != 0) {
    const int error = errno;
    return absl::ResourceExhaustedError(absl::StrCat(
        "memory of ", bytes, " bytes cannot be placed by its NUMA policy: ",
        std::generic_category().message(error), "; allow mbind for this process or use no --numa"));
  }
  return absl::OkStatus();
}

}  // namespace engram
