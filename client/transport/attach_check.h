// The check of what an owner sends to a client that attaches, the same for every transport that
// attaches to another process: the manifest against the id it came with, the token map against the
// manifest, and the set against what was asked for. Nothing of an answer is used before it.
//
// Stateless and thread-safe. Cost: one SHA-256 over the manifest, one over the token map.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/transport/transport.h"

namespace engram {

// Rows of one layer that an owner says it holds.
struct HeldRanges {
  uint32_t layer = 0;
  std::vector<RowRange> ranges;
};

struct AttachAnswer {
  absl::string_view owner;         // for messages: "engramd at ADDRESS"
  absl::string_view table_set_id;  // of the set that the owner says it sent
  absl::string_view manifest;      // the manifest's bytes
  // As they came. Unlike the others they are no part of what the id says: an owner that lies has a
  // client refuse tokens, or take images', and nothing else.
  absl::Span<const int32_t> image_token_ids = {};
  // As it came: of each layer in the manifest's order; empty: all rows.
  std::vector<HeldRanges> held = {};
};

// `asked`: an id or a name, or empty (asked_for.h). `token_map` gives the map's bytes, which live
// until the check returns; it is called only where the manifest has a map, and its error is the
// check's. DATA_LOSS: what came is not what its id says, is another set than was asked for, has
// more image token ids than an owner sends, or holds rows that are none of the set's.
absl::StatusOr<AttachedTableSet> CheckAttached(
    const AttachAnswer& answer, absl::string_view asked,
    absl::FunctionRef<absl::StatusOr<absl::string_view>()> token_map);

}  // namespace engram
