// What travels over an RDMA connection: the client's request, and the owner's answers in immediates
// and refusals. Version 1; proto/FORMATS.md has the page.
//
// A request is one SEND: a header, the layers wanted and where each lands, then row ids. Places are
// offsets within landing windows that the client declared over gRPC; keys never travel here. In the
// place of row ids there may be token ids with what stands before each sequence, and, where the
// owner offered it (proto/wire/features.h, token_slices), the columns wanted of each layer: the
// owner addresses them. The owner writes rows to the places, and each layer's last write carries an
// immediate; or it refuses the request with a message. All numbers are little-endian. Stateless and
// thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "memstore/addressing/column_slice.h"
#include "memstore/gather/landing.h"
#include "memstore/rdma/limits.h"

namespace engram {

inline constexpr uint32_t kRdmaRequestMagic = 0x51474e45;  // "ENGQ"
inline constexpr uint32_t kRdmaRefusalMagic = 0x52474e45;  // "ENGR"
inline constexpr uint16_t kRdmaVersion = 1;

inline constexpr uint32_t kRdmaTokenIds = 0;

// Which request an answer belongs to: the client's slot, and how often that was used.
struct RdmaTag {
  uint8_t slot = 0;
  uint16_t generation = 0;
  friend bool operator==(const RdmaTag&, const RdmaTag&) = default;
};
// In place of a layer: all of the request's.
inline constexpr uint8_t kRdmaAllLayers = 0xff;
static_assert(kRdmaRequestLayers < kRdmaAllLayers && kRdmaCredits <= 256);

// The immediate that says that layer number `layer` of the request, counted from 0, has landed.
constexpr uint32_t RdmaImmediate(RdmaTag tag, uint8_t layer) {
  return uint32_t{tag.slot} << 24 | uint32_t{layer} << 16 | tag.generation;
}
constexpr RdmaTag RdmaTagOf(uint32_t immediate) {
  return {static_cast<uint8_t>(immediate >> 24), static_cast<uint16_t>(immediate)};
}
constexpr uint8_t RdmaLayerOf(uint32_t immediate) { return static_cast<uint8_t>(immediate >> 16); }

struct RdmaRequestHeader {
  uint32_t magic;
  uint16_t version;
  uint16_t layers;
  uint32_t tag;         // as an immediate for all layers
  uint32_t id_bytes;    // 4 or 8; kRdmaTokenIds: token ids follow in the place of row ids
  uint64_t batch;       // the client's number, for messages alone
  uint64_t timeout_us;  // 0: none
};
struct RdmaRequestLayer {
  uint32_t layer;
  uint32_t window;
  uint64_t offset;  // in the landing window, of the first row
  uint64_t group_stride_bytes;
  uint32_t group_rows;  // 0: rows lie back to back
  uint32_t rows;
};
static_assert(sizeof(RdmaRequestHeader) == 32 && sizeof(RdmaRequestLayer) == 32);

// What follows the layers of a request by token ids: this; with kRdmaSlices for each layer the
// number of runs of its columns and the runs (ColumnRun); sequence_tokens[sequences];
// windows[sequences * lookback] (lookback windows: compressed ids before the sequence's first
// token, the newest first; -1: blocked, and so all behind it); token_ids[tokens]; and with
// kRdmaDead a byte a token.
struct RdmaTokens {
  uint32_t tokens;
  uint32_t sequences;
  uint32_t lookback;  // of the address scheme
  uint32_t parts;     // kRdmaDead and what is below, or nothing
};
static_assert(sizeof(RdmaTokens) == 16);
inline constexpr uint32_t kRdmaDead = 1;
inline constexpr uint32_t kRdmaSlices = 2;
// No part but a mark, only for an owner that offered it (image_checks): tokens of images need not
// be dead.
inline constexpr uint32_t kRdmaUnmaskedImages = 4;
inline constexpr uint32_t kRdmaKnownParts = kRdmaDead | kRdmaSlices | kRdmaUnmaskedImages;
static_assert(sizeof(ColumnRun) == 8 && alignof(ColumnRun) == 4);

struct RdmaRefusal {
  uint32_t magic;
  uint32_t tag;
  uint32_t code;  // an absl::StatusCode
  uint32_t message_bytes;
  char message[kRdmaRefusalBytes - 16];
};
static_assert(sizeof(RdmaRefusal) == kRdmaRefusalBytes);

// Ids of one layer begin on 8 bytes.
constexpr uint64_t RdmaIdBytes(uint64_t rows, uint32_t id_bytes) {
  return (rows * id_bytes + 7) / 8 * 8;
}
constexpr uint64_t RdmaHeadBytes(uint64_t layers) {
  return sizeof(RdmaRequestHeader) + layers * sizeof(RdmaRequestLayer);
}

// Of a request by token ids, all but the layers. `slice_bytes`: of its layers' runs.
constexpr uint64_t RdmaTokenBytes(const RdmaTokens& tokens, uint64_t slice_bytes = 0) {
  const uint64_t words = uint64_t{tokens.sequences} * (1 + tokens.lookback) + tokens.tokens;
  const uint64_t dead = (tokens.parts & kRdmaDead) != 0 ? tokens.tokens : 0;
  return (sizeof(RdmaTokens) + slice_bytes + words * 4 + dead + 7) / 8 * 8;
}
// Of one layer's.
constexpr uint64_t RdmaSliceBytes(uint64_t runs) {
  return sizeof(uint32_t) + runs * sizeof(ColumnRun);
}
static_assert(RdmaHeadBytes(kRdmaRequestLayers) +
                  RdmaTokenBytes({kRdmaRequestTokens, kRdmaRequestTokens, kRdmaMostLookback,
                                  kRdmaKnownParts},
                                 kRdmaRequestLayers* RdmaSliceBytes(ColumnSlice::kMaxRuns)) <=
              kRdmaRequestBytes);

// A request as it lies in the buffer that it was received in; ids are not looked at.
struct RdmaRequestView {
  RdmaRequestHeader header{};
  RdmaRequestLayer layers[kRdmaRequestLayers];
  const std::byte* ids[kRdmaRequestLayers];  // of each layer; none by token ids
  RdmaTokens tokens{};
  absl::Span<const ColumnRun> runs[kRdmaRequestLayers];  // with kRdmaSlices, of each layer
  absl::Span<const uint32_t> sequence_tokens;
  absl::Span<const int32_t> windows, token_ids;
  absl::Span<const uint8_t> dead;

  absl::Span<const uint32_t> Ids32(size_t i) const {
    return {reinterpret_cast<const uint32_t*>(ids[i]), layers[i].rows};
  }
  absl::Span<const uint64_t> Ids64(size_t i) const {
    return {reinterpret_cast<const uint64_t*>(ids[i]), layers[i].rows};
  }
};
// INVALID_ARGUMENT: it is none; `view->header.tag` is right all the same where the header came.
// Runs are as many as a slice may have; what they name is not looked at. `bytes` lie on 8 bytes.
absl::Status ParseRdmaRequest(absl::Span<const std::byte> bytes, RdmaRequestView* view);

RdmaRefusal MakeRdmaRefusal(uint32_t tag, const absl::Status& status);
// Whose request was refused, and why.
struct RdmaRefused {
  uint32_t tag = 0;
  absl::Status status;  // never OK
};
// INTERNAL when the bytes are no refusal.
absl::StatusOr<RdmaRefused> ReadRdmaRefusal(absl::Span<const std::byte> bytes);

// A layer's place in a landing window, with the width of its rows.
struct RdmaPlace {
  uint32_t window = 0;
  uint64_t offset = 0;  // of the first row, in the landing window
  uint64_t rows = 0;
  uint32_t row_bytes = 0;
  LandingShape shape = {};

  bool IsOneRun() const { return shape.IsOneRun(rows, row_bytes); }
};
// From the first byte to the end of the last row. INVALID_ARGUMENT: no rows, groups that overlap,
// or a place that has no such number.
absl::StatusOr<uint64_t> RdmaExtent(const RdmaPlace& place);
// Whether the layers, in whatever order, fill each group's stride without a gap, as [tokens,
// layers, columns] does: all of it is then one run, which begins with the layer that this returns.
// -1 when they do not.
int RdmaTile(absl::Span<const RdmaPlace> places);

}  // namespace engram
