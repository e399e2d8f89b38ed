#include "memstore/rdma/request.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "memstore/base/status_macros.h"

namespace engram {

static_assert(std::endian::native == std::endian::little, "structures are sent as they lie");

namespace {

// The runs of each layer; returns their bytes.
absl::StatusOr<uint64_t> ParseSlices(absl::Span<const std::byte> bytes, RdmaRequestView* view) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < view->header.layers; ++i) {
    uint32_t count = 0;
    if (bytes.size() - at >= sizeof(count)) std::memcpy(&count, bytes.data() + at, sizeof(count));
    if (count < 1 || count > ColumnSlice::kMaxRuns || bytes.size() - at < RdmaSliceBytes(count)) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", view->layers[i].layer, ": a slice of ", count,
                       " runs of columns: 1 to ", ColumnSlice::kMaxRuns,
                       ", all within the request; leave out a layer of which no column is wanted"));
    }
    view->runs[i] = {reinterpret_cast<const ColumnRun*>(bytes.data() + at + sizeof(count)), count};
    at += RdmaSliceBytes(count);
  }
  return at;
}

// What follows the layers.
absl::Status ParseTokens(absl::Span<const std::byte> bytes, RdmaRequestView* view) {
  RdmaTokens& tokens = view->tokens;
  if (bytes.size() < sizeof(tokens)) {
    return absl::InvalidArgumentError("the request ends before its tokens");
  }
  std::memcpy(&tokens, bytes.data(), sizeof(tokens));
  if (tokens.tokens < 1 || tokens.tokens > kRdmaRequestTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request has 1 to ", kRdmaRequestTokens, " token ids, not ", tokens.tokens));
  }
  if (tokens.sequences < 1 || tokens.sequences > tokens.tokens ||
      tokens.lookback > kRdmaMostLookback || (tokens.parts & ~kRdmaKnownParts) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(tokens.tokens, " tokens can't be ", tokens.sequences, " sequences with ",
                     tokens.lookback, " tokens before each, and parts ", tokens.parts));
  }
  uint64_t slice_bytes = 0;
  if ((tokens.parts & kRdmaSlices) != 0) {
    ENGRAM_ASSIGN_OR_RETURN(slice_bytes, ParseSlices(bytes.subspan(sizeof(tokens)), view));
  }
  const uint64_t need = RdmaTokenBytes(tokens, slice_bytes);
  if (need != bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its tokens take ", need, " bytes and there are ", bytes.size()));
  }
  const std::byte* at = bytes.data() + sizeof(tokens) + slice_bytes;
  view->sequence_tokens = {reinterpret_cast<const uint32_t*>(at), tokens.sequences};
  at += uint64_t{tokens.sequences} * 4;
  const uint64_t windows = uint64_t{tokens.sequences} * tokens.lookback;
  view->windows = {reinterpret_cast<const int32_t*>(at), windows};
  at += windows * 4;
  view->token_ids = {reinterpret_cast<const int32_t*>(at), tokens.tokens};
  at += uint64_t{tokens.tokens} * 4;
  view->dead = {reinterpret_cast<const uint8_t*>(at),
                (tokens.parts & kRdmaDead) != 0 ? tokens.tokens : 0};
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseRdmaRequest(absl::Span<const std::byte> bytes, RdmaRequestView* view) {
  if (bytes.size() < sizeof(RdmaRequestHeader)) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request of ", bytes.size(), " bytes has no header"));
  }
  std::memcpy(&view->header, bytes.data(), sizeof(view->header));
  const RdmaRequestHeader& header = view->header;
  if (header.magic != kRdmaRequestMagic || header.version != kRdmaVersion) {
    return absl::InvalidArgumentError(absl::StrCat("this is no request of version ", kRdmaVersion,
                                                   ": update the older of client and owner"));
  }
  if (header.layers < 1 || header.layers > kRdmaRequestLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("a request has 1 to ", kRdmaRequestLayers, " layers, not ", header.layers));
  }
  if (header.id_bytes != 4 && header.id_bytes != 8 && header.id_bytes != kRdmaTokenIds) {
    return absl::InvalidArgumentError(absl::StrCat("ids of ", header.id_bytes, " bytes: 4 or 8"));
  }
  const uint64_t head = RdmaHeadBytes(header.layers);
  if (bytes.size() < head) {
    return absl::InvalidArgumentError("the request ends within its layers");
  }
  std::memcpy(view->layers, bytes.data() + sizeof(header),
              header.layers * sizeof(RdmaRequestLayer));
  if (header.id_bytes == kRdmaTokenIds) return ParseTokens(bytes.subspan(head), view);
  uint64_t at = head;
  for (uint32_t i = 0; i < header.layers; ++i) {
    view->ids[i] = bytes.data() + at;
    at += RdmaIdBytes(view->layers[i].rows, header.id_bytes);  // 2^32 rows at most: no overflow
  }
  if (at != bytes.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the request names ", at, " bytes and has ", bytes.size()));
  }
  return absl::OkStatus();
}

RdmaRefusal MakeRdmaRefusal(uint32_t tag, const absl::Status& status) {
  RdmaRefusal refusal{};
  refusal.magic = kRdmaRefusalMagic;
  refusal.tag = tag;
  refusal.code = static_cast<uint32_t>(status.code());
  const absl::string_view message = status.message().substr(0, sizeof(refusal.message));
  refusal.message_bytes = static_cast<uint32_t>(message.size());
  std::copy(message.begin(), message.end(), refusal.message);
  return refusal;
}

absl::StatusOr<RdmaRefused> ReadRdmaRefusal(absl::Span<const std::byte> bytes) {
  RdmaRefusal refusal{};
  std::memcpy(&refusal, bytes.data(), std::min(bytes.size(), sizeof(refusal)));
  if (bytes.size() != sizeof(refusal) || refusal.magic != kRdmaRefusalMagic || refusal.code == 0) {
    return absl::InternalError("the owner sent a message that is no refusal: attach again");
  }
  const size_t message_bytes = std::min<size_t>(refusal.message_bytes, sizeof(refusal.message));
  return RdmaRefused{.tag = refusal.tag,
                     .status = absl::Status(static_cast<absl::StatusCode>(refusal.code),
                                            {refusal.message, message_bytes})};
}

absl::StatusOr<uint64_t> RdmaExtent(const RdmaPlace& place) {
  if (place.rows == 0) return absl::InvalidArgumentError("it has no rows");
  return place.shape.Extent(place.rows, place.row_bytes);
}

int RdmaTile(absl::Span<const RdmaPlace> places) {
  if (places.size() < 2 || places.size() > kRdmaRequestLayers) return -1;
  const RdmaPlace& one = places[0];
  if (one.shape.group_rows == 0 || one.shape.group_stride_bytes > kRdmaSlabBytes) return -1;
  const uint64_t groups = one.rows / one.shape.group_rows;
  std::array<uint8_t, kRdmaRequestLayers> order;
  std::iota(order.begin(), order.end(), uint8_t{0});
  std::sort(order.begin(), order.begin() + places.size(),
            [&](uint8_t a, uint8_t b) { return places[a].offset < places[b].offset; });
  uint64_t at = places[order[0]].offset;
  for (size_t i = 0; i < places.size(); ++i) {
    const RdmaPlace& place = places[order[i]];
    const LandingShape& shape = place.shape;
    if (place.window != one.window || shape.group_stride_bytes != one.shape.group_stride_bytes ||
        shape.group_rows == 0 || place.rows != groups * shape.group_rows || place.offset != at) {
      return -1;
    }
    at += shape.group_rows * place.row_bytes;
  }
  return at - places[order[0]].offset == one.shape.group_stride_bytes ? order[0] : -1;
}

}  // namespace engram
