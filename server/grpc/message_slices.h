// Between gRPC's buffers and ours: the parts of a received message, and a slab as a slice to send.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "proto/wire/reader.h"
#include "server/lookup/reply_slabs.h"

namespace engram {

// The bytes of a message where gRPC put them. Reused from message to message.
class MessageSlices {
 public:
  // The parts live until the next call.
  absl::Span<const wire::Bytes> Of(const grpc::ByteBuffer& message) {
    chain_.clear();
    slices_.clear();
    if (!message.Valid() || !message.Dump(&slices_).ok()) return {};
    for (const grpc::Slice& slice : slices_) chain_.push_back({slice.begin(), slice.size()});
    return chain_;
  }

 private:
  std::vector<grpc::Slice> slices_;
  std::vector<wire::Bytes> chain_;
};

// A slice of `part` of the slab, which goes back to its pool when gRPC lets go of the slice.
inline grpc::Slice SliceOf(ReplySlabs::Slab slab, absl::Span<std::byte> part) {
  return grpc::Slice(part.data(), part.size(), &ReplySlabs::Slab::GiveBack, std::move(slab).Lend());
}

inline grpc::ByteBuffer OneSlice(const grpc::Slice& slice) { return grpc::ByteBuffer(&slice, 1); }

}  // namespace engram
