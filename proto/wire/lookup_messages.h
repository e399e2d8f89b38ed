// LookupRequest and LookupResponse (proto/engram/v1/lookup.proto) as the fast path sees them:
// parsed from and framed into gRPC's own buffers, without protobuf.
//
// Same bytes, same meaning as the generated classes; the differential test compares both. Objects
// keep what they allocated, so that parsing one message after another into the same object
// allocates nothing once it has seen the largest. Thread-compatible.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "proto/wire/reader.h"

namespace engram::wire {

// Layers of a request that are kept; a request that names more is still parsed to its end. Far
// above the layers of any model, so whoever checks a request finds it wrong.
inline constexpr size_t kMaxKeptLayers = 1024;
// Runs of a slice of columns that are kept: as many as one may have. Further ones are counted.
inline constexpr size_t kMaxKeptRuns = 8;

struct LookupRequest {
  // As it came, unchecked.
  struct Run {
    uint32_t first_column = 0;
    uint32_t columns = 0;
  };
  struct Slice {
    uint64_t runs_named = 0;
    std::array<Run, kMaxKeptRuns> kept;

    absl::Span<const Run> runs() const {
      return {kept.data(), static_cast<size_t>(std::min<uint64_t>(runs_named, kMaxKeptRuns))};
    }
  };
  struct Layer {
    uint32_t layer = 0;
    std::vector<uint32_t> ids32;
    std::vector<uint64_t> ids64;
    bool has_columns = false;
    Slice columns;
  };
  struct Tokens {
    std::vector<uint32_t> layers;
    std::vector<int32_t> token_ids;
    std::vector<uint8_t> dead_mask;
    std::vector<uint32_t> sequence_tokens;
    std::vector<uint32_t> sequence_lookback;
    std::vector<int32_t> sequence_windows;
    std::vector<Slice> columns;  // the first kMaxKeptLayers of them
    uint64_t columns_named = 0;
  };

  std::string table_set_id;
  uint64_t batch_id = 0;
  uint64_t timeout_us = 0;
  bool cancel = false;
  bool allow_unmasked_images = false;
  bool has_tokens = false;
  Tokens tokens;
  uint64_t layers_named = 0;  // in the message; the first kMaxKeptLayers of them are kept

  absl::Span<const Layer> layers() const { return {layers_.data(), layer_count_}; }

  // Replaces everything. False when the bytes are no LookupRequest.
  bool Parse(absl::Span<const Bytes> chain);
  // Bytes of its lists, and what those have allocated.
  uint64_t ListBytes() const;
  uint64_t KeptBytes() const;

 private:
  void Clear();
  bool ParseField(Reader& reader, uint32_t field, WireType type);
  bool ParseLayer(Reader& reader);
  bool ParseTokens(Reader& reader);

  std::vector<Layer> layers_;  // beyond layer_count_: kept for their memory
  size_t layer_count_ = 0;
};

struct LookupResponse {
  struct Layer {
    uint32_t layer = 0;
    uint64_t first_row = 0;
    Extent rows;  // in the chain that was parsed
  };

  std::string table_set_id;
  uint64_t batch_id = 0;
  std::vector<Layer> layers;
  uint32_t code = 0;
  std::string message;
  uint32_t retry_after_ms = 0;
  bool last = false;

  bool Parse(absl::Span<const Bytes> chain);

 private:
  bool ParseField(Reader& reader, uint32_t field, WireType type);
};

// Framing of a response: its head, then for each layer a head and the layer's rows. Each function
// writes to `out` and returns the end; ...Bytes says how much that will be.
struct ReplyHead {
  absl::string_view table_set_id;
  uint64_t batch_id = 0;
  bool last = false;
};
uint64_t ReplyHeadBytes(const ReplyHead& head);
uint8_t* WriteReplyHead(const ReplyHead& head, uint8_t* out);

struct ReplyLayerHead {
  uint32_t layer = 0;
  uint64_t first_row = 0;
  uint64_t rows_bytes = 0;  // more than 0; they follow the head
};
uint64_t ReplyLayerHeadBytes(const ReplyLayerHead& head);
uint8_t* WriteReplyLayerHead(const ReplyLayerHead& head, uint8_t* out);

// A batch's failure on a stream.
struct ReplyError {
  uint64_t batch_id = 0;
  uint32_t code = 0;
  absl::string_view message;
  uint32_t retry_after_ms = 0;
};
std::string EncodeReplyError(const ReplyError& error);

// Framing of a request: its head, then each layer with its row ids, or the tokens.
struct RequestHead {
  absl::string_view table_set_id;
  uint64_t batch_id = 0;
  uint64_t timeout_us = 0;
  bool cancel = false;
  bool allow_unmasked_images = false;
};
uint64_t RequestHeadBytes(const RequestHead& head);
uint8_t* WriteRequestHead(const RequestHead& head, uint8_t* out);

// `wide`: ids travel as 64 bits, else each is below 2^32.
struct RequestLayer {
  uint32_t layer = 0;
  bool wide = false;
  absl::Span<const uint64_t> ids;
};
uint64_t RequestLayerBytes(const RequestLayer& layer);
uint8_t* WriteRequestLayer(const RequestLayer& layer, uint8_t* out);

// Token ids behind windows. A layer's slice is its runs: `runs_of_layer` says of each layer how
// many of `runs` are its own; empty: all columns of every layer.
struct RequestTokens {
  absl::Span<const uint32_t> layers;
  absl::Span<const int32_t> token_ids;
  absl::Span<const uint8_t> dead_mask;
  absl::Span<const uint32_t> sequence_tokens;
  absl::Span<const int32_t> sequence_windows;
  absl::Span<const LookupRequest::Run> runs;
  absl::Span<const uint32_t> runs_of_layer;
};
uint64_t RequestTokensBytes(const RequestTokens& tokens);
uint8_t* WriteRequestTokens(const RequestTokens& tokens, uint8_t* out);

}  // namespace engram::wire
