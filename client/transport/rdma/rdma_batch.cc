#include "client/transport/rdma/rdma_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "memstore/base/check.h"
#include "memstore/base/status_macros.h"
#include "proto/wire/features.h"

namespace engram {
namespace {

// A batch is kept to be used again with ids of at most so many bytes, a prefill's of ten thousand
// tokens.
constexpr size_t kSpareBytes = 4 << 20;

// The same error with the layer's name in front; what it carries for code stays with it.
absl::Status OfLayer(uint32_t layer, const absl::Status& status) {
  absl::Status named(status.code(), absl::StrCat("layer ", layer, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view url, const absl::Cord& payload) { named.SetPayload(url, payload); });
  return named;
}

}  // namespace

// A request while it is written: layers are added, then ids behind all of them.
struct RdmaBatch::Writer {
  Request request;
  std::array<RdmaRequestLayer, kRdmaRequestLayers> layers;
  std::array<const RowId*, kRdmaRequestLayers> ids;
  uint64_t bytes = sizeof(RdmaRequestHeader);

  void Add(uint32_t place, const RdmaRequestLayer& layer, const RowId* first, uint32_t id_bytes) {
    ENGRAM_CHECK(request.layer_count < kRdmaRequestLayers, "a request has too many layers");
    request.layers[request.layer_count] = {place, layer.rows};
    layers[request.layer_count] = layer;
    ids[request.layer_count] = first;
    ++request.layer_count;
    bytes += sizeof(RdmaRequestLayer) + RdmaIdBytes(layer.rows, id_bytes);
  }
};

absl::Status RdmaBatch::Take(const BatchRequest& request, const Manifest& manifest,
                             FindRdmaLanding find) {
  Reset(request, manifest);
  if (by_tokens_ && request.layers.size() > kRdmaRequestLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch by token ids for ", request.layers.size(), " layers: over RDMA ",
                     kRdmaRequestLayers, " at most, split it by layers"));
  }
  const bool slices = by_tokens_ && !request.tokens->slices.empty();
  for (size_t i = 0; i < request.layers.size(); ++i) {
    const LayerRequest& layer = request.layers[i];
    const LayerTableSpec* const spec = manifest.FindLayer(layer.layer);
    ENGRAM_CHECK(spec != nullptr && (!slices || i < request.tokens->slices.size()),
                 "a batch that was not checked");
    const ColumnSlice slice =
        slices ? request.tokens->slices[i] : ColumnSlice::All(manifest.scheme.Columns());
    if (absl::Status taken = TakeLayer(layer, *spec, slice, find); !taken.ok()) {
      return OfLayer(layer.layer, taken);
    }
  }
  is_tile_ = places_.size() == layers_.size() && RdmaTile(places_) >= 0;
  SkipWritten();
  return absl::OkStatus();
}

void RdmaBatch::Reset(const BatchRequest& request, const Manifest& manifest) {
  until_ = request.deadline;
  layers_.clear();
  places_.clear();
  ids_.clear();
  id_bytes_ = sizeof(uint32_t);
  next_layer_ = 0;
  begun_ = restarted_ = false;
  is_tile_ = sliced_ = false;
  by_tokens_ = request.tokens != nullptr;
  sequences_.clear();
  next_sequence_ = next_token_ = 0;
  lookback_ = manifest.scheme.Lookback();
  to_land_ = 0;
  if (!by_tokens_) return;
  const TokenBatch& tokens = *request.tokens;
  sequences_.assign(tokens.sequences.begin(), tokens.sequences.end());
  token_ids_.assign(tokens.token_ids.begin(), tokens.token_ids.end());
  dead_.assign(tokens.dead.begin(), tokens.dead.end());
  allow_unmasked_images_ = tokens.allow_unmasked_images;
}

absl::Status RdmaBatch::TakeLayer(const LayerRequest& layer, const LayerTableSpec& spec,
                                  ColumnSlice slice, FindRdmaLanding find) {
  if (!layer.landing.places.empty()) {
    return absl::UnimplementedError(
        "its landing lists places, which do not travel over RDMA: order the rows as they land");
  }
  if (spec.rows > uint64_t{1} << 32) id_bytes_ = sizeof(uint64_t);
  LayerProgress taken{
      .layer = layer.layer,
      .place = {},
      .data = layer.landing.data,
      .first_id = ids_.size(),
      .rows = by_tokens_ ? token_ids_.size() * slice.columns() : layer.row_ids.size(),
      .slice = slice};
  // Of a slice of no columns there is nothing to ask for.
  if (by_tokens_ ? slice.empty() : layer.slice != nullptr && layer.slice->empty()) {
    layers_.push_back(taken);
    return absl::OkStatus();
  }
  if (by_tokens_ && !slice.is_all()) sliced_ = true;
  taken.place.rows = taken.rows;
  taken.place.row_bytes = spec.row_bytes;
  taken.place.shape = layer.landing.shape();
  ENGRAM_ASSIGN_OR_RETURN(const uint64_t extent, RdmaExtent(taken.place));
  ENGRAM_ASSIGN_OR_RETURN(const RdmaLandingPlace landing, find(layer.landing.data, extent));
  taken.place.window = landing.window;
  taken.place.offset = landing.offset;
  taken.local_key = landing.local_key;
  // On the wire a group has 32 bits; a larger one is never full here.
  if (taken.place.shape.group_rows > std::numeric_limits<uint32_t>::max()) taken.place.shape = {};
  layers_.push_back(taken);
  places_.push_back(taken.place);
  ids_.insert(ids_.end(), layer.row_ids.begin(), layer.row_ids.end());
  to_land_ += taken.rows;
  return absl::OkStatus();
}

bool RdmaBatch::MayBeKept() const {
  return ids_.capacity() * sizeof(RowId) + token_ids_.capacity() * sizeof(int32_t) +
             sequences_.capacity() * sizeof(SequenceTokens) <=
         kSpareBytes;
}

bool RdmaBatch::Restart() {
  if (std::exchange(restarted_, true)) return false;
  begun_ = false;
  next_layer_ = 0;
  next_sequence_ = next_token_ = 0;
  to_land_ = 0;
  for (LayerProgress& layer : layers_) {
    // Of a layer that has landed nothing is written once more: its reader may be at work in place.
    if (layer.landed == layer.rows) {
      layer.written = layer.rows;
      is_tile_ = false;
      continue;
    }
    layer.written = layer.landed = 0;
    to_land_ += layer.rows;
  }
  SkipWritten();
  return true;
}

void RdmaBatch::WriteHead(RdmaTag tag, MonotonicTime now, const Writer& writer, uint32_t id_bytes,
                          std::byte* out) const {
  RdmaRequestHeader header{.magic = kRdmaRequestMagic,
                           .version = kRdmaVersion,
                           .layers = static_cast<uint16_t>(writer.request.layer_count),
                           .tag = RdmaImmediate(tag, kRdmaAllLayers),
                           .id_bytes = id_bytes,
                           .batch = number,
                           .timeout_us = 0};
  const absl::Duration left = until_ - now;
  if (left < absl::Hours(1)) {
    header.timeout_us =
        static_cast<uint64_t>(std::max<int64_t>(1, absl::ToInt64Microseconds(left)));
  }
  std::memcpy(out, &header, sizeof(header));
  std::memcpy(out + sizeof(header), writer.layers.data(),
              writer.request.layer_count * sizeof(RdmaRequestLayer));
}

absl::Status RdmaBatch::CheckOffered(const RdmaOwnerFeatures& owner) const {
  if (!sliced_ || owner.token_slices) return absl::OkStatus();
  return wire::LacksFeature(wire::kTokenSlices, owner.name, owner.version);
}

// As many whole sequences as fit into the next request.
RdmaTokens RdmaBatch::CountTokens(bool image_checks) const {
  RdmaTokens tokens{.tokens = 0,
                    .sequences = 0,
                    .lookback = lookback_,
                    .parts = (dead_.empty() ? 0 : kRdmaDead) | (sliced_ ? kRdmaSlices : 0)};
  if (allow_unmasked_images_ && image_checks) tokens.parts |= kRdmaUnmaskedImages;
  while (next_sequence_ + tokens.sequences < sequences_.size()) {
    const uint32_t next = sequences_[next_sequence_ + tokens.sequences].tokens;
    if (tokens.tokens + next > kRdmaRequestTokens) break;
    tokens.tokens += next;
    ++tokens.sequences;
  }
  ENGRAM_CHECK(tokens.sequences > 0, "a sequence is longer than a request");
  return tokens;
}

// Of every layer that has not landed.
RdmaBatch::Request RdmaBatch::WriteTokens(RdmaTag tag, MonotonicTime now, std::byte* out,
                                          bool image_checks) {
  const RdmaTokens tokens = CountTokens(image_checks);
  Writer writer;
  for (uint32_t i = 0; i < layers_.size(); ++i) {
    LayerProgress& layer = layers_[i];
    if (layer.landed == layer.rows) continue;
    const LandingShape& shape = layer.place.shape;
    const uint64_t rows = uint64_t{tokens.tokens} * layer.slice.columns();
    writer.Add(i,
               {.layer = layer.layer,
                .window = layer.place.window,
                .offset = layer.place.offset + layer.OffsetOf(layer.written),
                .group_stride_bytes = shape.group_stride_bytes,
                .group_rows = static_cast<uint32_t>(shape.group_rows),
                .rows = static_cast<uint32_t>(rows)},
               nullptr, sizeof(uint32_t));
    layer.written += rows;
  }
  WriteHead(tag, now, writer, kRdmaTokenIds, out);
  std::byte* at = out + RdmaHeadBytes(writer.request.layer_count);
  const auto put = [&at](const void* from, size_t bytes) {
    std::memcpy(at, from, bytes);
    at += bytes;
  };
  put(&tokens, sizeof(tokens));
  uint64_t slice_bytes = 0;
  for (uint32_t i = 0; sliced_ && i < writer.request.layer_count; ++i) {
    const absl::Span<const ColumnRun> runs = layers_[writer.request.layers[i].place].slice.runs();
    const auto count = static_cast<uint32_t>(runs.size());
    put(&count, sizeof(count));
    put(runs.data(), runs.size() * sizeof(ColumnRun));
    slice_bytes += RdmaSliceBytes(count);
  }
  for (uint32_t i = 0; i < tokens.sequences; ++i) {
    put(&sequences_[next_sequence_ + i].tokens, sizeof(uint32_t));
  }
  for (uint32_t i = 0; i < tokens.sequences; ++i) {
    for (uint32_t j = 0; j < lookback_; ++j) {
      const int64_t id = sequences_[next_sequence_ + i].state.ids[j];
      const int32_t narrow = id == SequenceState::kBlocked ? -1 : static_cast<int32_t>(id);
      put(&narrow, sizeof(narrow));
    }
  }
  put(&token_ids_[next_token_], tokens.tokens * sizeof(int32_t));
  if (!dead_.empty()) put(&dead_[next_token_], tokens.tokens);
  next_sequence_ += tokens.sequences;
  next_token_ += tokens.tokens;
  writer.request.bytes = static_cast<uint32_t>(RdmaHeadBytes(writer.request.layer_count) +
                                               RdmaTokenBytes(tokens, slice_bytes));
  std::memset(at, 0, out + writer.request.bytes - at);
  return writer.request;
}

RdmaBatch::Request RdmaBatch::WriteNext(RdmaTag tag, MonotonicTime now, std::byte* out,
                                        bool image_checks) {
  ENGRAM_CHECK(!AllWritten(), "a batch that has been written is written on");
  begun_ = true;
  if (by_tokens_) return WriteTokens(tag, now, out, image_checks);
  Writer writer;
  // Groups too large for a request travel layer by layer.
  if (!is_tile_ || AddTile(writer) == 0) AddRows(writer);
  WriteHead(tag, now, writer, id_bytes_, out);
  uint64_t at = RdmaHeadBytes(writer.request.layer_count);
  for (uint32_t i = 0; i < writer.request.layer_count; ++i) {
    const uint64_t rows = writer.layers[i].rows;
    if (id_bytes_ == sizeof(RowId)) {
      std::memcpy(out + at, writer.ids[i], rows * sizeof(RowId));
    } else {
      auto* const narrow = reinterpret_cast<uint32_t*>(out + at);
      for (uint64_t j = 0; j < rows; ++j) narrow[j] = static_cast<uint32_t>(writer.ids[i][j]);
    }
    at += RdmaIdBytes(rows, id_bytes_);
  }
  writer.request.bytes = static_cast<uint32_t>(at);
  return writer.request;
}

// The next groups of all layers; 0 when not even one fits.
uint64_t RdmaBatch::AddTile(Writer& writer) {
  uint64_t group_ids = 0;
  for (const LayerProgress& layer : layers_) group_ids += layer.place.shape.group_rows;
  if (group_ids == 0) return 0;
  // Each layer's ids may end 4 bytes short of where the next one's begin.
  const uint64_t room = kRdmaRequestBytes - RdmaHeadBytes(layers_.size()) - 8 * layers_.size();
  const uint64_t left = (layers_[0].rows - layers_[0].written) / layers_[0].place.shape.group_rows;
  const uint64_t groups = std::min(left, room / (group_ids * id_bytes_));
  if (groups == 0) return 0;
  for (uint32_t i = 0; i < layers_.size(); ++i) {
    LayerProgress& layer = layers_[i];
    const LandingShape& shape = layer.place.shape;
    writer.Add(i,
               {.layer = layer.layer,
                .window = layer.place.window,
                .offset = layer.place.offset + layer.OffsetOf(layer.written),
                .group_stride_bytes = shape.group_stride_bytes,
                .group_rows = static_cast<uint32_t>(shape.group_rows),
                .rows = static_cast<uint32_t>(groups * shape.group_rows)},
               &ids_[layer.first_id + layer.written], id_bytes_);
    layer.written += groups * shape.group_rows;
  }
  if (layers_[0].written == layers_[0].rows) next_layer_ = layers_.size();
  return groups;
}

// Rows of one layer after the other, as many as fit. A request that does not take all of a layer
// takes whole groups, or a run within a group that is too large.
void RdmaBatch::AddRows(Writer& writer) {
  while (next_layer_ < layers_.size() && writer.request.layer_count < kRdmaRequestLayers) {
    LayerProgress& layer = layers_[next_layer_];
    const RdmaPlace& place = layer.place;
    const uint64_t head = writer.bytes + sizeof(RdmaRequestLayer);
    if (head + RdmaIdBytes(1, id_bytes_) > kRdmaRequestBytes) return;
    const uint64_t left = layer.rows - layer.written;
    uint64_t rows = std::min((kRdmaRequestBytes - head) / 8 * 8 / id_bytes_, left);
    RdmaRequestLayer wire{.layer = layer.layer,
                          .window = place.window,
                          .offset = place.offset + layer.OffsetOf(layer.written),
                          .group_stride_bytes = 0,
                          .group_rows = 0,
                          .rows = 0};
    if (!place.IsOneRun()) {
      const uint64_t group_rows = place.shape.group_rows;
      const uint64_t run = place.shape.RunRows(layer.written);
      if (run < group_rows || rows < group_rows) {
        rows = std::min(rows, run);  // within a group: back to back
      } else {
        if (rows < left) rows -= rows % group_rows;
        wire.group_rows = static_cast<uint32_t>(group_rows);
        wire.group_stride_bytes = place.shape.group_stride_bytes;
      }
    }
    wire.rows = static_cast<uint32_t>(rows);
    writer.Add(static_cast<uint32_t>(next_layer_), wire, &ids_[layer.first_id + layer.written],
               id_bytes_);
    layer.written += rows;
    if (layer.written < layer.rows) return;
    SkipWritten();
  }
}

// Past what is written, or had landed before the batch began again.
void RdmaBatch::SkipWritten() {
  while (next_layer_ < layers_.size() &&
         layers_[next_layer_].written == layers_[next_layer_].rows) {
    ++next_layer_;
  }
}

RdmaBatch::Read RdmaBatch::NextRead() {
  ENGRAM_CHECK(!AllWritten(), "a batch that has been read is read on");
  begun_ = true;
  LayerProgress& layer = layers_[next_layer_];
  const Read read{.layer = layer.layer,
                  .row_bytes = layer.place.row_bytes,
                  .row = ids_[layer.first_id + layer.written],
                  .to = layer.data + layer.OffsetOf(layer.written),
                  .local_key = layer.local_key};
  if (++layer.written == layer.rows) SkipWritten();
  return read;
}

bool RdmaBatch::Land(const RequestLayer& rows) {
  ENGRAM_CHECK(rows.rows <= to_land_, "more rows landed than were asked for");
  layers_[rows.place].landed += rows.rows;
  to_land_ -= rows.rows;
  return HasLanded(rows.place);
}

absl::Status RdmaBatch::CheckRows(
    absl::FunctionRef<absl::Status(uint32_t, absl::Span<const RowId>)> check) const {
  for (const LayerProgress& layer : layers_) {
    ENGRAM_RETURN_IF_ERROR(
        check(layer.layer, absl::MakeConstSpan(ids_).subspan(layer.first_id, layer.rows)));
  }
  return absl::OkStatus();
}

}  // namespace engram
