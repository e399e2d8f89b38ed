// The bytes of a received message where gRPC put them, and a message of one grpc::Slice to be sent.
#pragma once

#include <grpcpp/grpcpp.h>

#include <vector>

#include "absl/types/span.h"
#include "proto/wire/reader.h"

namespace engram::rpc {

// Reused from message to message, so that a warm one allocates nothing. Thread-compatible. Cost:
// a reference count a slice; no byte is copied.
class MessageSlices {
 public:
  // Replaces what it held. False, and nothing held, where `message` is none. The bytes live until
  // the next call or Clear, whatever becomes of `message`.
  [[nodiscard]] bool Read(const grpc::ByteBuffer& message) {
    Clear();
    if (!message.Valid() || !message.Dump(&slices_).ok()) return false;
    for (const grpc::Slice& slice : slices_) chain_.push_back({slice.begin(), slice.size()});
    return true;
  }
  // Lets go of the bytes, which no limit counts while it holds them.
  void Clear() {
    chain_.clear();
    slices_.clear();
  }
  absl::Span<const wire::Bytes> chain() const { return chain_; }

 private:
  std::vector<grpc::Slice> slices_;
  std::vector<wire::Bytes> chain_;
};

inline grpc::ByteBuffer OneSlice(const grpc::Slice& slice) { return grpc::ByteBuffer(&slice, 1); }

}  // namespace engram::rpc
