// What both ends of AttachRdma say of their queue pairs and memory: to messages and back.
//
// Templates over the ends' own structs, so that proto uses nothing of theirs. `Peer` has
// queue_pair, first_sequence, gid (an array of 16 bytes), lid, mtu and reads; `Region` has data(),
// bytes() and remote_key(). Stateless and thread-safe.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/engram/v1/lookup.pb.h"

namespace engram {

template <typename Peer>
void WriteQueuePair(const Peer& peer, v1::RdmaQueuePair* pair) {
  pair->set_number(peer.queue_pair);
  pair->set_first_sequence(peer.first_sequence);
  pair->set_gid(peer.gid.data(), peer.gid.size());
  pair->set_lid(peer.lid);
  pair->set_mtu(peer.mtu);
  pair->set_reads(peer.reads);
}

// INVALID_ARGUMENT: a GID or a LID that cannot be. Numbers are the device's to check.
template <typename Peer>
absl::StatusOr<Peer> ReadQueuePair(const v1::RdmaQueuePair& pair) {
  Peer peer;
  if (pair.gid().size() != peer.gid.size()) {
    return absl::InvalidArgumentError(absl::StrCat("the peer's queue pair has a GID of ",
                                                   pair.gid().size(), " bytes: a GID has 16"));
  }
  if (pair.lid() > std::numeric_limits<decltype(peer.lid)>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the peer's queue pair has the LID ", pair.lid(), ": a LID has 16 bits"));
  }
  std::copy(pair.gid().begin(), pair.gid().end(), peer.gid.begin());
  peer.queue_pair = pair.number();
  peer.first_sequence = pair.first_sequence();
  peer.lid = static_cast<decltype(peer.lid)>(pair.lid());
  peer.mtu = pair.mtu();
  peer.reads = pair.reads();
  return peer;
}

template <typename Region>
void WriteWindow(const Region& region, v1::RdmaWindow* window) {
  window->set_address(reinterpret_cast<uintptr_t>(region.data()));
  window->set_bytes(region.bytes());
  window->set_key(region.remote_key());
}

}  // namespace engram
