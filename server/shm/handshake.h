// What engramd answers a client that asks for a table set over its shared-memory socket: the reply
// and the descriptors that go with it.
//
// Stateless and thread-safe. The request is any bytes that came.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "memstore/os/memfd.h"
#include "memstore/shm/protocol.h"
#include "memstore/store/table_set_registry.h"

namespace engram {

// A request that holds what it should.
struct ParsedShmRequest {
  ShmMode mode = ShmMode::kMapped;
  std::string table_set;
  bool takes_image_token_ids = false;
  bool takes_held_rows = false;
};
// INVALID_ARGUMENT names what is wrong with it.
absl::StatusOr<ParsedShmRequest> ParseShmRequest(absl::Span<const std::byte> bytes);
// Whether it is a client's of another version: one of the things that are wrong.
bool IsOfAnotherVersion(absl::Span<const std::byte> bytes);

struct ShmGrant {
  ShmReply reply;
  std::vector<int32_t> image_token_ids;  // that go behind the reply
  ServedSet served;                      // what is lent
  Mapping ring;                          // the region, mapped; empty when the tables are
  std::vector<FileDescriptor> own;       // made for this client, closed once they were sent
  std::vector<int> descriptors;          // to be sent, in the protocol's order
};

// The registry's errors; FAILED_PRECONDITION when the set's rows are not in its tables, or a part
// of them is held and the client, an older one, does not take that; UNIMPLEMENTED when the set
// cannot be mapped (the client asks for a ring then).
absl::StatusOr<ShmGrant> GrantShmRequest(const ParsedShmRequest& request,
                                         const TableSetRegistry& registry, uint64_t max_batch_rows,
                                         MayHaveSet may_have = &EverySet);
// The message of a grant: the reply, and what goes behind it.
std::vector<std::byte> ShmGrantMessage(const ShmGrant& grant);
// A reply that carries an error and nothing else.
ShmReply ShmErrorReply(const absl::Status& status);

}  // namespace engram
