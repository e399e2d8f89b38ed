// Messages of the methods beside lookups, to and from gRPC's bytes: protobuf, but not before their
// size is known to be small.
//
// gRPC would parse a message of any size it takes, before anybody is asked who sends it: four
// megabytes of empty strings cost the loop that serves lookups a tenth of a second. So these
// methods are registered raw, their callers are authenticated first, and what is longer than any
// client of theirs has reason to send is refused unread. Stateless and thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "server/base/limits.h"

namespace engram {

// INVALID_ARGUMENT: longer than kMaxSmallMessageBytes, or not such a message. `bytes` is empty
// afterwards.
template <typename Message>
absl::Status ParseSmall(grpc::ByteBuffer& bytes, Message* message) {
  if (bytes.Length() > kMaxSmallMessageBytes) {
    const size_t length = bytes.Length();
    bytes.Clear();
    return absl::InvalidArgumentError(absl::StrCat("a message of ", length, " bytes, ",
                                                   Message::descriptor()->full_name(), " has ",
                                                   kMaxSmallMessageBytes, " at most: send less"));
  }
  if (grpc::SerializationTraits<Message>::Deserialize(&bytes, message).ok()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the message is no ", Message::descriptor()->full_name(),
                   ": make it with stubs of proto/engram/v1/lookup.proto"));
}

// Of a message of ours.
template <typename Message>
grpc::ByteBuffer ToBytes(const Message& message) {
  grpc::ByteBuffer bytes;
  bool own = false;
  const grpc::Status status = grpc::SerializationTraits<Message>::Serialize(message, &bytes, &own);
  ENGRAM_CHECK(status.ok(), "a message of ours cannot be written");
  return bytes;
}

}  // namespace engram
