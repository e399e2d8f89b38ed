// A slab as a slice that gRPC sends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <utility>

#include "absl/types/span.h"
#include "server/lookup/reply_slabs.h"

namespace engram {

// A slice of `part` of the slab, which goes back to its pool when gRPC lets go of the slice. Copies
// no byte.
inline grpc::Slice SliceOf(ReplySlabs::Slab slab, absl::Span<std::byte> part) {
  return grpc::Slice(part.data(), part.size(), &ReplySlabs::Slab::GiveBack, std::move(slab).Lend());
}

}  // namespace engram
