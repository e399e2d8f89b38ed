// Which way auto: takes to an engramd, and why not a better one.
//
// Shared memory where the owner names a socket that is on this machine, else RDMA, else gRPC, which
// is there in any case. A pure function of what was found out so far, asked again after each try:
// nothing here opens, waits or reads a clock.
#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"

namespace engram {

enum class AutoWay { kShm, kRdma, kGrpc };

// What is known of the ways to an owner; a try that was not made yet has no status.
struct AutoFindings {
  std::string shm_socket = {};  // that the owner names; empty: none
  bool socket_is_here = false;  // a file of that name is on this machine
  std::optional<absl::Status> shm = std::nullopt;
  std::optional<absl::Status> rdma = std::nullopt;
};

struct AutoChoice {
  AutoWay way = AutoWay::kGrpc;
  // Whether the way was tried and is there (kGrpc always); else it is the one to try next.
  bool found = false;
  std::string why;  // not the ways before it; empty for the best
};

AutoChoice ChooseWay(const AutoFindings& findings);

}  // namespace engram
